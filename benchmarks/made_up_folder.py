"""A benchmark's folder as runs leave it, without a training: for the report's benchmark, and for its tests.

Every case has a truth of its own, every method, seed and site an effect on it, so that the tables are as uneven as real
ones. All is drawn from one generator.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from elsewhere.benchmark.sheets import BINS, CASE_COLUMNS, EVALUATION
from elsewhere.benchmark.spec import REFERENCE, RunSpec
from elsewhere.benchmark.tables import write_tables
from elsewhere.study.case import Fold

CLASSES = {"classification": ("healthy", "ill"), "segmentation": ("background", "lesion")}

SETTINGS = {"network": "made up", "steps": 200, "batch_size": 8, "learning_rate": 0.001}

PARTS = 3
"""Trainings of a reference."""

LEVELS, VOXELS = 100, 4096


@dataclass
class MadeUp:
    """What a folder is to hold.

    Attributes:
        task: "classification" or "segmentation".
        sites: held-out sites, and how many patients each has.
        methods: with the size of each one's advantage, in standard deviations of a case.
        seeds: of every method at every site.
        home, calibration: patients of the in-domain test and of the calibration part of each run.
        cases: of each patient.
        reference: also trained within the site.
        selection: rules.
        evaluation: 2; 1 leaves out what older runs have not written.
        examples: pictures of the first seed's runs.
        classes: of the task.
        seed: of all that is drawn.
    """

    task: str = "classification"
    sites: Mapping[str, int] = field(default_factory=lambda: {"A": 40, "B": 40, "C": 40})
    methods: Mapping[str, float] = field(default_factory=lambda: {"erm": 0.0, "gin": 0.5})
    seeds: Sequence[int] = (0, 1)
    home: int = 24
    calibration: int = 24
    cases: int = 1
    reference: bool = False
    selection: tuple[str, ...] = ("source-val",)
    evaluation: int = EVALUATION
    examples: bool = True
    classes: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        self.classes = self.classes or CLASSES[self.task]
        self.rng = np.random.default_rng(self.seed)

    def specs(self, settings: Mapping[str, Any] = SETTINGS) -> list[RunSpec]:
        """All runs of the question."""
        made = []
        for method in [*self.methods, *([REFERENCE] if self.reference else [])]:
            parts = [(part, PARTS) for part in range(PARTS)] if method == REFERENCE else [None]
            for site in self.sites:
                for seed in self.seeds:
                    for part in parts:
                        made.append(self._spec(method, site, seed, part, settings))
        return made

    def write(self, folder: Path, *, tables: bool = True, settings: Mapping[str, Any] = SETTINGS) -> list[RunSpec]:
        """Write the folder; without `tables`, only what the runs write."""
        specs = self.specs(settings)
        self._truths = {site: self._people(site, n) for site, n in self.sites.items()}
        for spec in specs:
            self._run(folder, spec)
        question = {
            "study": "made-up", "task": self.task, "dims": 2, "classes": list(self.classes), "command": "elsewhere …",
            "written": "2026-01-01", "versions": {"elsewhere": "0.1.0"},
            "runs": [{"folder": str(spec.folder), "spec": spec.to_dict()} for spec in specs],
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(json.dumps(question), encoding="utf-8")
        if self.evaluation > 1:
            everybody = pd.concat([people for people in self._truths.values()])
            columns = ["case", "patient", "site", "age", "sex"]
            everybody[columns].to_csv(folder / "covariates.csv", index=False)
        if tables:
            write_tables(folder, specs)
        return specs

    def _spec(
        self, method: str, site: str, seed: int, part: tuple[int, int] | None, settings: Mapping[str, Any]
    ) -> RunSpec:
        about = json.dumps([self.task, method, site, seed, part, dict(settings)])
        return RunSpec(
            study="/nowhere",
            site_column=None,
            allow_outside=False,
            method=method,
            trained_as="erm" if method == REFERENCE else method,
            fold=Fold((site,), part),
            seed=seed,
            settings=settings,
            options={},
            selection=self.selection,
            identity=hashlib.sha256(about.encode()).hexdigest(),
        )

    def _people(self, site: str, n: int) -> pd.DataFrame:
        patients = np.repeat(np.arange(n), self.cases)
        count = n * self.cases
        number = list(self.sites).index(site)
        return pd.DataFrame(
            {
                "case": [f"{site}-{i:04d}" for i in range(count)],
                "patient": [f"{site}-p{p:04d}" for p in patients],
                "site": site,
                "target": (np.arange(count) + number) % len(self.classes),
                "ease": self.rng.normal(0, 1, n)[patients] + self.rng.normal(0, 0.5, count) + 0.6 - 0.15 * number,
                "age": np.where(np.arange(n) % 9 == 0, "", (40 + self.rng.integers(0, 45, n)).astype(str))[patients],
                "sex": np.where(np.arange(n) % 2, "F", "M")[patients],
            }
        )

    def _run(self, folder: Path, spec: RunSpec) -> None:
        where = folder / spec.folder
        where.mkdir(parents=True)
        site = spec.fold.held_out[0]
        luck = self.rng.normal(0, 0.2) + self.methods.get(spec.method, 1.0)
        tables = []
        for rule in self.selection:
            for split, people in self._splits(spec, site):
                own = {"method": spec.method, "held_out": site, "seed": spec.seed, "selection": rule, "split": split}
                gain = luck + (1.0 if split != "held-out" else 0.0)
                tables.append(self._judged(people, own, people["ease"].to_numpy() + gain))
        table = pd.concat(tables, ignore_index=True)
        self._write(where, spec, table)

    def _splits(self, spec: RunSpec, site: str) -> list[tuple[str, pd.DataFrame]]:
        here = self._truths[site]
        if spec.fold.part is not None:
            number, of = spec.fold.part
            patients = here["patient"].unique()
            return [("held-out", here[here["patient"].isin(patients[number::of])])]
        others = pd.concat([people for name, people in self._truths.items() if name != site] or [here.iloc[:0]])
        names = self.rng.permutation(others["patient"].unique())
        parts = {"in-domain": names[: self.home], "calibration": names[self.home : self.home + self.calibration]}
        if self.evaluation < 2:
            del parts["calibration"]
        found = [("held-out", here)]
        return found + [(name, others[others["patient"].isin(some)]) for name, some in parts.items() if len(some)]

    def _judged(self, people: pd.DataFrame, own: Mapping[str, Any], ease: NDArray[np.float64]) -> pd.DataFrame:
        table = people[["case", "patient", "site"]].assign(**own)
        said = ease + self.rng.normal(0, 0.7, len(people))
        if self.task == "classification":
            columns = self._classified(people["target"].to_numpy(), said)
        else:
            columns = self._segmented(said)
        if self.evaluation > 1:
            outlier = -ease + self.rng.normal(0, 1, len(people))
            columns["outlier"] = outlier
            for name in ("mahalanobis", "knn", "input"):
                columns[f"outlier:{name}"] = outlier + self.rng.normal(0, 0.5, len(people))
            columns["unlike"] = outlier > 2.0
        return pd.concat([table.reset_index(drop=True), pd.DataFrame(columns)], axis=1)

    def _classified(self, target: NDArray[np.int64], said: NDArray[np.float64]) -> dict[str, Any]:
        k = len(self.classes)
        logits = 1.2 * said[:, None] * np.eye(k)[target] + self.rng.normal(0, 0.4, (len(target), k))
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        columns: dict[str, Any] = {f"probability:{name}": p[:, i] for i, name in enumerate(self.classes)}
        columns["target"] = target
        if self.evaluation > 1:
            columns["confidence"] = p.max(1)
        return columns

    def _segmented(self, said: NDArray[np.float64]) -> dict[str, Any]:
        n, rng = len(said), self.rng
        dice = 1 / (1 + np.exp(-(said + 1)))
        columns: dict[str, Any] = {
            "dice": dice, "iou": dice / (2 - dice), "accuracy": 0.9 + 0.1 * dice, "hd95": 30 * (1 - dice) + 1,
            "assd": 8 * (1 - dice) + 0.3,
        }  # fmt: skip
        edges = (np.arange(BINS) + 0.5) / BINS
        for name, right in (("bin", 0.75 + 0.2 * dice), ("scaled", 0.78 + 0.2 * dice)):
            if name == "scaled" and self.evaluation < 2:
                continue
            count = rng.multinomial(VOXELS, np.r_[np.zeros(8), 0.05, 0.05, 0.05, 0.05, 0.1, 0.2, 0.5], n)
            columns[f"{name}_count"] = list(count)
            columns[f"{name}_confidence"] = list(count * edges)
            columns[f"{name}_right"] = list(np.round(count * np.minimum(edges, right[:, None])).astype(int))
        if self.evaluation > 1:
            levels = (np.arange(LEVELS) + 0.5) / LEVELS
            likely = levels[None] ** (3 * dice[:, None]) * 1.0
            unlikely = (1 - levels[None]) ** (3 + 5 * dice[:, None])
            columns["foreground_true"] = list(rng.multinomial(VOXELS // 8, likely / likely.sum(1, keepdims=True)))
            columns["foreground_false"] = list(rng.multinomial(VOXELS, unlikely / unlikely.sum(1, keepdims=True)))
            for name in self.classes[1:]:
                true = rng.integers(0, 5, n)
                columns[f"lesions_true:{name}"] = true
                columns[f"lesions_found:{name}"] = rng.binomial(true, dice)
                columns[f"lesions_false:{name}"] = rng.poisson(2 * (1 - dice))
            columns["confidence"] = np.clip(dice + rng.normal(0, 0.1, n), 0, 1)
        return columns

    def _write(self, where: Path, spec: RunSpec, table: pd.DataFrame) -> None:
        table.to_parquet(where / "predictions.parquet", index=False)
        self._scores(table).to_csv(where / "cases.csv", index=False)
        n = self.calibration
        fitted = {"temperature": 1.3, "n_patients": n, "n_cases": n, "reason": None, "outlier_threshold": 2.0}
        if self.evaluation > 1 and spec.fold.part is None:
            (where / "calibration.json").write_text(json.dumps(dict.fromkeys(self.selection, fitted)))
        steps = np.arange(10, 210, 10)
        logged = [
            {"step": step, "split": split, "name": name, "value": value}
            for split, name, values in (
                ("train", "loss", np.exp(-steps / 80) + 0.05 * self.rng.random(len(steps))),
                ("validation", "score", 0.9 - 0.4 * np.exp(-steps / 40) + 0.01 * self.rng.random(len(steps))),
            )
            for step, value in zip(steps, values, strict=True)
        ]
        pd.DataFrame(logged).to_csv(where / "log.csv", index=False)
        if self.examples and spec.seed == min(self.seeds) and spec.fold.part is None:
            self._examples(where / "examples", spec, table[table["split"] == "held-out"])
        files = [
            path for path in where.glob("*") if path.name in ("cases.csv", "predictions.parquet", "calibration.json")
        ]
        done: dict[str, Any] = {
            "identity": spec.identity, "selection": list(self.selection), "steps": 200, "models": [], "notes": [],
            "training_notes": [], "seconds": {"training": 60.0},
        }  # fmt: skip
        if self.evaluation > 1:
            digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
            done |= {"evaluation": self.evaluation, "files": digests}
        (where / "done.json").write_text(json.dumps(done))

    def _scores(self, table: pd.DataFrame) -> pd.DataFrame:
        judged = table[table["split"] != "calibration"]
        if self.task == "classification":
            p = judged[[f"probability:{name}" for name in self.classes]].to_numpy()
            right = (p.argmax(1) == judged["target"]).astype(float)
            scores = {("all", "accuracy"): right}
        else:
            metrics = ("dice", "iou", "accuracy", "hd95", "assd")
            scores = {(name, metric): judged[metric] for name in ("all", *self.classes[1:]) for metric in metrics}
        rows = [
            judged.assign(**{"class": name, "metric": metric, "value": v})[CASE_COLUMNS]
            for (name, metric), v in scores.items()
        ]
        return pd.concat(rows, ignore_index=True)

    def _examples(self, where: Path, spec: RunSpec, table: pd.DataFrame) -> None:
        where.mkdir()
        listed = []
        y, x = np.mgrid[:96, :96]
        for place, name in enumerate(("best", "median", "worst")):
            one = table.iloc[place % len(table)]
            image = (90 + 40 * np.sin(x / 9) + self.rng.normal(0, 12, x.shape)).clip(0, 255).astype(np.uint8)[..., None]
            arrays = {"image": image}
            if self.task == "segmentation":
                arrays["truth"] = ((y - 48) ** 2 + (x - 40) ** 2 < 400).astype(np.uint8)
                arrays["prediction"] = ((y - 48) ** 2 + (x - 40 - 8 * place) ** 2 < 400).astype(np.uint8)
            np.savez_compressed(where / f"{name}.npz", **arrays)
            about = {
                "method": spec.method,
                "held_out": spec.fold.name,
                "seed": spec.seed,
                "selection": self.selection[0],
            }
            said = {
                "name": name,
                "case": one["case"],
                "score": 0.9 - 0.3 * place,
                "caption": "truth ill, predicted ill",
            }
            listed.append({**about, "split": "held-out", **said, "views": ["image"]})
        (where / "examples.json").write_text(json.dumps(listed))
