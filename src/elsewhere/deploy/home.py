"""How a finished model does at home: the in-domain test patients, whom nothing of it has seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.deploy.calibration import LEVELS, foreground_levels
from elsewhere.deploy.found import METRICS
from elsewhere.deploy.model import Model, label_sets_of, outer_mask_of
from elsewhere.evidence.bounded import WHOLE, bounds_of_case
from elsewhere.evidence.conformal import coverage, mask_coverage, sets
from elsewhere.evidence.estimands import THESE_MODELS, sentence
from elsewhere.evidence.intervals import Interval, patient_interval, set_interval
from elsewhere.evidence.operating import dice_at, operating_point
from elsewhere.study.case import Picture, StoredCase
from elsewhere.study.seal import Development
from elsewhere.tasks.metrics import score_segmentation

RESAMPLES = 1000

Tell = Callable[[int, int], None]


def labelled(development: Development, case_id: str) -> tuple[StoredCase, Picture | int]:
    """A case of a development, and its label in the geometry of the file."""
    stored = development.load(case_id)
    if isinstance(stored.label, int):
        return stored, stored.label
    return stored, development.original_label(case_id)


def figures_at_home(model: Model, development: Development, tell: Tell | None = None) -> dict[str, Any]:
    """Judge the in-domain test patients of a development.

    Args:
        model: finished, with its temperature and thresholds.
        development: that it was trained on.
        tell: called with (cases judged, cases in all).

    Returns:
        Plain values: `estimand` (a sentence), `rows` (site or None for all, class, metric, value, lo, hi, reason,
        n_cases, n_patients), `operating` (class, threshold, sensitivity, ...), `sentences`.
    """
    ids = development.split.test
    found: dict[str, Any] = {"estimand": sentence(THESE_MODELS), "rows": [], "operating": [], "sentences": []}
    if not ids:
        return found
    seen = _Seen(model, development, ids, tell)
    found["rows"] = list(_rows(seen, model))
    found["operating"] = list(_operating(seen, model))
    found["sentences"] = list(_sentences(seen, model))
    return found


class _Seen:
    """What the model said of each case, as far as scores need it; no volume is kept.

    Attributes:
        sites, patients: (N,).
        unlike: (N,).
        probabilities, target: (N, K) and (N,), classification.
        scores: (class or "all", metric) -> (N,), segmentation.
        foreground: (2, N, LEVELS) voxels that are foreground, and that are not, by P(not background); segmentation.
    """

    def __init__(self, model: Model, development: Development, ids: Sequence[str], tell: Tell | None) -> None:
        truths: list[Picture | int] = []

        def cases() -> Iterator[StoredCase]:
            for case_id in ids:
                stored, truth = labelled(development, case_id)
                truths.append(truth)
                yield stored

        self.sites: list[str] = []
        self.patients: list[str] = []
        self.unlike: list[bool | None] = []
        probabilities, target = [], []
        scores: dict[tuple[str, str], list[float]] = {}
        foreground = []
        for number, prediction in enumerate(model.predictions(cases()), start=1):
            truth, case = truths.pop(0), prediction.stored.case
            self.sites.append(case.site)
            self.patients.append(case.patient)
            self.unlike.append(prediction.unlike)
            if isinstance(truth, Picture):
                spacing = prediction.stored.original.spacing
                own = score_segmentation(
                    np.asarray(prediction.labels), np.asarray(truth.array), len(model.classes), spacing
                )
                for (index, metric), value in own.items():
                    name = index if isinstance(index, str) else model.classes[index]
                    scores.setdefault((name, metric), []).append(float(value))
                foreground.append(foreground_levels(prediction.probabilities, truth.array))
            else:
                probabilities.append(prediction.probabilities)
                target.append(truth)
            if tell is not None:
                tell(number, len(ids))
        self.scores = {key: np.array(values) for key, values in scores.items()}
        self.probabilities = np.array(probabilities)
        self.target = np.array(target)
        self.foreground = np.array(foreground).swapaxes(0, 1) if foreground else np.zeros((2, 0, LEVELS))


def _rows(seen: _Seen, model: Model) -> Iterator[dict[str, Any]]:
    """All sites together by every metric, each site by the first; each foreground class where there are several."""
    metrics = METRICS[model.task]
    sites = sorted(set(seen.sites))
    of_site: Mapping[str, NDArray[np.bool_]] = {site: np.array(seen.sites) == site for site in sites}
    everybody = np.ones(len(seen.sites), dtype=bool)

    def row(site: str | None, name: str, metric: str) -> dict[str, Any]:
        chosen = everybody if site is None else of_site[site]
        patients = [patient for patient, inside in zip(seen.patients, chosen, strict=True) if inside]
        if model.task == "segmentation":
            scores, bounds = seen.scores[name, metric][chosen], bounds_of_case(metric)
            interval = patient_interval(scores, patients, n_boot=RESAMPLES, bounds=bounds)
        else:
            interval = set_interval(seen.probabilities[chosen], seen.target[chosen], patients, metric, n_boot=RESAMPLES)
        return {"site": site, "class": name, "metric": metric, **plain(interval)}

    yield from (row(None, "all", metric) for metric in metrics)
    if model.task == "segmentation" and len(model.classes) > 2:
        yield from (row(None, name, metrics[0]) for name in model.classes[1:])
    if len(sites) > 1:
        yield from (row(site, "all", metrics[0]) for site in sites)


def _operating(seen: _Seen, model: Model) -> Iterator[dict[str, Any]]:
    """What the thresholds of a classification do."""
    if model.task == "segmentation":
        return
    for name, threshold in model.thresholds.items():
        index = model.classes.index(name)
        points = operating_point(seen.probabilities[:, index], seen.target == index, seen.patients, threshold)
        yield {"class": name, "threshold": threshold, **{key: plain(point) for key, point in points.items()}}


def _sentences(seen: _Seen, model: Model) -> Iterator[str]:
    """What threshold, prediction sets and flag do."""
    true, false = seen.foreground
    if "foreground" in model.thresholds and model.task == "segmentation":
        dice = patient_interval(dice_at(true, false, model.thresholds["foreground"]), seen.patients, bounds=WHOLE)
        yield f"At the threshold of P(foreground) below, Dice of all foreground taken together is {_words(dice)}."
    label_sets, outer_mask = label_sets_of(model.conformal), outer_mask_of(model.conformal)
    if label_sets is not None and label_sets.reason is None:
        found = coverage(sets(seen.probabilities, label_sets), seen.target, seen.patients)
        yield (
            f"The prediction sets below ({100 * label_sets.level:g} % were asked for) hold the truth of all cases for "
            f"{_words(found.patients)} of the patients; they have {_words(found.size)} classes in the mean."
        )
    if outer_mask is not None and outer_mask.reason is None:
        held = mask_coverage(true, false, seen.patients, outer_mask)
        yield (
            f"The outer mask below ({100 * outer_mask.level:g} % were asked for) holds all but "
            f"{100 * outer_mask.missed:g} % of the foreground for {_words(held.patients)} of the patients; it takes "
            f"{_words(held.size)} of the image, the truth {_words(held.truth)}."
        )
    if model.statistics.threshold is not None:
        unlike = sum(flag is True for flag in seen.unlike)
        yield f"{unlike} of these {len(seen.unlike)} cases are flagged as unlike the development data."


def _words(interval: Interval) -> str:
    """`0.93 [0.88, 0.97]`."""
    if math.isnan(interval.value):
        return "an unknown share"
    limits = "no interval" if math.isnan(interval.lo) else f"{interval.lo:.2f}, {interval.hi:.2f}"
    return f"{interval.value:.2f} [{limits}]"


def plain(interval: Interval) -> dict[str, Any]:
    """An interval as JSON and YAML know it; None where a number is not known."""

    def known(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    return {
        "value": known(interval.value),
        "lo": known(interval.lo),
        "hi": known(interval.hi),
        "n_cases": int(interval.n_cases),
        "n_patients": int(interval.n_patients),
        "reason": interval.reason,
        "doubt": interval.doubt,
    }
