"""A method taken apart: its variants in one benchmark, and what each input channel is worth to their networks."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from elsewhere.analysis.everywhere import open_for_analysis
from elsewhere.benchmark.loading import read_plan
from elsewhere.benchmark.record import reading
from elsewhere.errors import SettingsError
from elsewhere.files import folder_lock, write_text
from elsewhere.terminal import console as standard_output

ABLATION = "ablation.json"


@dataclass(frozen=True)
class Variant:
    """A method with some of its parts.

    Attributes:
        label: its name in the tables.
        method: of the registry.
        what: what its network gets, in words.
        options: that make it the variant; all others are the method's own, or as the user sets them.
    """

    label: str
    method: str
    what: str
    options: dict[str, Any] = field(default_factory=dict)


def _both(label: str, p: float) -> Variant:
    words = f"image and features, channels dropped with p\u00a0=\u00a0{p:g}" if p else "image and features, no dropout"
    # Without dropout there is no probability of the image's own either, whatever the other variants have.
    return Variant(label, "dropgen", words, {"p": p} if p else {"p": p, "p_image": None})


ABLATIONS: dict[str, tuple[Variant, ...]] = {
    "dropgen": (
        Variant("erm", "erm", "image alone"),
        Variant("features", "dropgen", "features alone, no dropout", {"image": False, "p": 0.0, "p_image": None}),
        _both("both", 0.0),
        _both("both-25", 0.25),
        _both("both-50", 0.5),
        _both("both-75", 0.75),
    )
}
"""The variants of figure 4 of the paper (Diaz et al. 2026), in the order in which parts are added."""


def run_ablation(
    method: str,
    study: Path | str,
    *,
    out: Path | str,
    variants: Sequence[str] | None = None,
    changes: Sequence[str] = (),
    sensitivity: int | None = None,
    jobs: int | None = 1,
    ray: str | None = None,
    console: Console | None = None,
    **question: Any,
) -> int:
    """Benchmark the variants of a method, then remove the input channels of each finished run one by one.

    Runs what is not done yet; can be interrupted and called again at any time.

    Args:
        method: that is taken apart; "dropgen".
        study: folder or manifest.
        out: the benchmark's folder.
        variants: labels of those that are run; None for all.
        changes: "KEY=VALUE" settings and "METHOD.KEY=VALUE" options, which are those of all its variants.
        sensitivity: remove channels on at most so many patients of each split; None: on all, 0: not at all.
        jobs, ray, console: as for `run_benchmark`.
        question: the other arguments of `run_benchmark`.

    Returns:
        0 where all is done, 1 where some runs failed.

    Raises:
        ElsewhereError: no such ablation or variant, an option that the ablation itself sets, or whatever
            `run_benchmark` says.
    """
    from elsewhere.benchmark.benchmark import PLAN, run_benchmark

    out, console = Path(out), console or standard_output()
    chosen = variants_of(method, variants)
    _require_free(changes, chosen)
    own = [f"{one.label}.{key}={json.dumps(value)}" for one in chosen for key, value in one.options.items()]
    names = [one.label if one.label == one.method else f"{one.label}={one.method}" for one in chosen]
    open_for_analysis(study, question)
    about = json.dumps({"ablation": method, "variants": [asdict(one) for one in chosen]}, indent=1)
    try:
        code = run_benchmark(
            study, out=out, methods=names, changes=[*changes, *own], jobs=jobs, ray=ray, console=console, **question
        )
    except KeyboardInterrupt:
        if (out / PLAN).is_file():  # else nothing was begun, and the folder may be anybody's
            write_text(out / ABLATION, about)
        raise
    write_text(out / ABLATION, about)
    if sensitivity == 0:
        return code
    trust = bool(question.get("trust"))
    return max(code, _remove(out, sensitivity, jobs, ray, trust, console))


def variants_of(method: str, labels: Sequence[str] | None = None) -> tuple[Variant, ...]:
    """The variants of a method's ablation, in its order; all, or those with these labels.

    Raises:
        SettingsError: there is no such ablation, or none of its variants is called so.
    """
    if method not in ABLATIONS:
        raise SettingsError(f"there is no ablation of {method!r}; there are those of: {', '.join(ABLATIONS)}")
    known = {one.label: one for one in ABLATIONS[method]}
    unknown = [label for label in labels or () if label not in known]
    if unknown or labels == []:
        found = repr(unknown[0]) if unknown else "nothing"
        raise SettingsError(f"--variants: found {found}, wanted some of: {', '.join(known)}")
    return tuple(one for label, one in known.items() if labels is None or label in labels)


def _require_free(changes: Sequence[str], chosen: Sequence[Variant]) -> None:
    """Refuse options that make the variants what they are: one variant would silently be another."""
    of_all = {key for one in chosen for key in one.options} - {"p_image"}  # those that drop channels may have one
    owners = {name for one in chosen for name in (one.label, one.method)}
    taken = {f"{owner}.{key}" for owner in owners for key in of_all}
    taken |= {f"{one.label}.{key}" for one in chosen for key in one.options}
    for text in changes:
        key = text.partition("=")[0].strip()
        if key in taken:
            raise SettingsError(f"--set {text}: the ablation sets {key} itself; leave it away")


def _remove(out: Path, most: int | None, jobs: int | None, ray: str | None, trust: bool, console: Console) -> int:
    """Remove the channels of all runs where that is not done yet, write `sensitivity.csv`, print what it says."""
    from elsewhere.analysis.sensitivity import remove_channels
    from elsewhere.analysis.sensitivity_print import print_sensitivity
    from elsewhere.analysis.sensitivity_table import is_done, looked_at, write_sensitivity
    from elsewhere.benchmark.display import Display, clock
    from elsewhere.benchmark.executor_local import LocalExecutor, cores
    from elsewhere.benchmark.executor_ray import RayExecutor
    from elsewhere.benchmark.trusting import trusting

    with folder_lock(out, "an ablation"):
        question, specs = read_plan(out)
        ready = [spec for spec in specs if looked_at(out, spec)]
        waiting = [spec for spec in ready if not is_done(out / spec.folder, spec, most)]
        whom = "all patients" if most is None else f"at most {most} patients of each split"
        console.print(
            f"\nchannels  removed one by one from the networks of {len(ready)} runs, on {whom}; "
            f"{len(ready) - len(waiting)} done, {len(waiting)} to do",
            highlight=False,
            soft_wrap=True,
        )
        began, failed = time.monotonic(), []
        if waiting:
            remove = partial(remove_channels, most=most)
            work = trusting(remove, waiting) if trust else remove
            local = LocalExecutor(work, min(jobs or cores(), len(waiting)))
            executor = local if ray is None else RayExecutor(work, ray)
            with Display(waiting, console) as display:
                for outcome in executor.run(waiting, out, display.event):
                    display.finish(outcome)
                    failed += [] if outcome.ok else [outcome]
        table = write_sensitivity(out, specs, question["task"], most)
        print_sensitivity(console, table, list(dict.fromkeys(spec.method for spec in specs)))
        if failed:
            console.print(f"{len(failed)} failed; the same command tries them again and keeps the others")
        else:
            took = clock(time.monotonic() - began)
            console.print(escape(f"wrote {out / 'sensitivity.csv'} ({took})"), highlight=False, soft_wrap=True)
    return 1 if failed else 0


def read_variants(out: Path) -> tuple[str, list[Variant]] | None:
    """The ablation of a benchmark's folder and its variants; None where it is none.

    Raises:
        RunError: `ablation.json` is damaged.
    """
    path = out / ABLATION
    if not path.is_file():
        return None
    with reading(path, "run the same 'elsewhere ablate' command again to write it anew"):
        about = json.loads(path.read_text(encoding="utf-8"))
        return str(about["ablation"]), [Variant(**one) for one in about["variants"]]
