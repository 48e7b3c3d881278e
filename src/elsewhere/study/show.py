"""`elsewhere study show`: what is in a study, site beside site."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from elsewhere.errors import ElsewhereError
from elsewhere.study.case import Case
from elsewhere.study.description import describe
from elsewhere.study.reading import read_image, read_label
from elsewhere.study.study import Progress, Study
from elsewhere.study.workers import available_cores

if TYPE_CHECKING:
    from rich.console import RenderableType

IMAGES_PER_SITE = 50
_PERCENTILES = (1, 50, 99)
_MOST_VALUES = 50_000


@dataclass(frozen=True)
class ImageFacts:
    """What one image, and its mask, look like.

    Attributes:
        shape: spatial. spacing: mm, None where the file has none.
        channels: of the array.
        intensities: 1st, 50th and 99th percentile, over all channels.
        classes: fraction of pixels of each class of a mask, in the order of the study's classes; empty without one.
        error: why it could not be read; everything else is empty then.
    """

    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] | None = None
    channels: int = 0
    intensities: tuple[float, ...] = ()
    classes: tuple[float, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class SiteSummary:
    """A site in numbers.

    Attributes:
        cases, patients, labelled: counts of all of the site.
        read: images that were read for what follows; unreadable: those of them that could not be.
        classes: classification, cases per class (of all); segmentation, share of the read masks that hold the class.
        class_fractions: segmentation, mean fraction of pixels per class.
        shapes: smallest, median and largest size per axis. spacings: the same in mm, None without any.
        intensities: medians over images of the 1st, 50th and 99th percentile of an image.
        covariates: name -> a few words.
    """

    site: str
    cases: int
    patients: int
    labelled: int
    read: int
    unreadable: int
    classes: Mapping[str, float]
    class_fractions: Mapping[str, float]
    channels: tuple[int, ...]
    shapes: tuple[tuple[float, ...], ...]
    spacings: tuple[tuple[float, ...], ...] | None
    intensities: tuple[float, ...]
    covariates: Mapping[str, str]


@dataclass(frozen=True)
class StudySummary:
    """A study in numbers; `lines` are those of `describe`."""

    name: str
    task: str
    lines: tuple[str, ...]
    sites: tuple[SiteSummary, ...]
    errors: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and words, for JSON."""
        return asdict(self)


def summarise(
    study: Study,
    *,
    images_per_site: int | None = IMAGES_PER_SITE,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> StudySummary:
    """Count everything, and read some images of each site.

    Args:
        study: to look at.
        images_per_site: how many images to read, spread evenly over the rows of a site; None for all of them.
        jobs: threads that read; all cores by default.
        progress: called with (images read, images in all).
    """
    chosen = {site: _spread(study.of_site(site), images_per_site) for site in study.sites}
    every = [case for cases in chosen.values() for case in cases]
    facts: dict[str, ImageFacts] = {}
    with ThreadPoolExecutor(max_workers=jobs or available_cores()) as pool:
        for done, (case, found) in enumerate(
            zip(every, pool.map(lambda case: image_facts(study, case), every), strict=True), start=1
        ):
            facts[case.id] = found
            if progress is not None:
                progress(done, len(every))
    covariates = list(dict.fromkeys(name for case in study.cases for name in case.covariates))
    sites = tuple(
        _summarise_site(study, site, covariates, [facts[case.id] for case in cases], study.of_site(site))
        for site, cases in chosen.items()
    )
    errors = tuple(found.error for found in facts.values() if found.error is not None)
    return StudySummary(study.name, study.task, tuple(describe(study)), sites, errors)


def image_facts(study: Study, case: Case) -> ImageFacts:
    """Read one case; a file that cannot be read is told in `error`, not raised."""
    try:
        picture = read_image(case.images)
        fractions: tuple[float, ...] = ()
        if isinstance(case.label, Path):
            fractions = _class_fractions(study, read_label(case.label, picture.geometry, study.config.mask_place).array)
    except ElsewhereError as error:
        return ImageFacts(error=str(error))
    values = picture.array.reshape(-1)
    values = values[:: values.size // _MOST_VALUES | 1]  # an odd step walks through all columns
    values = values[np.isfinite(values)]
    percentiles = np.percentile(values, _PERCENTILES) if values.size else np.full(len(_PERCENTILES), np.nan)
    return ImageFacts(
        picture.geometry.shape,
        picture.geometry.spacing,
        picture.array.shape[0],
        tuple(float(value) for value in percentiles),
        fractions,
    )


def render(summary: StudySummary) -> list[RenderableType]:
    """The tables and bars that the command prints, for a rich console."""
    from rich.markup import escape
    from rich.table import Table

    parts: list[RenderableType] = [escape(line) for line in summary.lines]
    counts = Table(title="cases")
    for column in ("site", "", "cases", "patients", "labelled"):
        counts.add_column(column, justify="left" if column in ("site", "") else "right")
    most = max(site.cases for site in summary.sites)
    for site in summary.sites:
        bar = "█" * max(1, round(20 * site.cases / most))
        counts.add_row(escape(site.site), bar, str(site.cases), str(site.patients), str(site.labelled))
    parts.append(counts)
    segmentation = summary.task == "segmentation"
    classes = Table(title="classes", caption="share of masks that hold it / of their pixels" if segmentation else None)
    for column in ("class", *(site.site for site in summary.sites)):
        classes.add_column(escape(column), justify="left" if column == "class" else "right")
    for name in summary.sites[0].classes:
        cells = [f"{site.classes[name]:.0f}" for site in summary.sites]
        if segmentation:
            cells = [f"{site.classes[name]:.0%} / {site.class_fractions[name]:.2%}" for site in summary.sites]
        classes.add_row(escape(name), *cells)
    parts.append(classes)
    images = Table(title="images (smallest · median · largest)", caption=_caption(summary))
    for column in ("site", "size", "spacing, mm", "channels", "intensity 1 % · 50 % · 99 %", "read"):
        images.add_column(column, justify="left" if column == "site" else "right")
    for site in summary.sites:
        images.add_row(
            escape(site.site),
            _sizes(site.shapes, "{:.0f}"),
            "none" if site.spacings is None else _sizes(site.spacings, "{:.3g}"),
            ", ".join(str(count) for count in site.channels) or "?",
            " · ".join(f"{value:.4g}" for value in site.intensities) or "?",
            f"{site.read - site.unreadable}" + (f" (+{site.unreadable} unreadable)" if site.unreadable else ""),
        )
    parts.append(images)
    names = list(summary.sites[0].covariates)
    if names:
        covariates = Table(title="covariates")
        for column in ("site", *names):
            covariates.add_column(escape(column))
        for site in summary.sites:
            covariates.add_row(escape(site.site), *(escape(site.covariates[name]) for name in names))
        parts.append(covariates)
    if summary.errors:
        more = f" (and {len(summary.errors) - 1} more)" if len(summary.errors) > 1 else ""
        parts.append(escape(f"cannot be read: {summary.errors[0]}{more}; see 'elsewhere study check'"))
    return parts


def _summarise_site(
    study: Study, site: str, covariates: Sequence[str], facts: Sequence[ImageFacts], cases: Sequence[Case]
) -> SiteSummary:
    sound = [found for found in facts if found.error is None]
    masks = [found.classes for found in sound if found.classes]
    if study.task == "segmentation":
        held = {name: _mean([float(mask[i] > 0) for mask in masks]) for i, name in enumerate(study.classes)}
        fractions = {name: _mean([mask[i] for mask in masks]) for i, name in enumerate(study.classes)}
    else:
        counts = Counter(case.label for case in cases)
        held, fractions = {name: float(counts[name]) for name in study.classes}, {}
    spacings = [found.spacing for found in sound if found.spacing is not None]
    return SiteSummary(
        site=site,
        cases=len(cases),
        patients=len({case.patient for case in cases}),
        labelled=sum(case.label is not None for case in cases),
        read=len(facts),
        unreadable=len(facts) - len(sound),
        classes=held,
        class_fractions=fractions,
        channels=tuple(sorted({found.channels for found in sound})),
        shapes=_low_median_high([found.shape for found in sound]),
        spacings=_low_median_high(spacings) if spacings else None,
        intensities=tuple(
            statistics.median(found.intensities[i] for found in sound) for i in range(len(_PERCENTILES)) if sound
        ),
        covariates={name: _in_words([case.covariates.get(name) for case in cases]) for name in covariates},
    )


def _spread(cases: Sequence[Case], n: int | None) -> list[Case]:
    if n is None or len(cases) <= n:
        return list(cases)
    return [cases[i * len(cases) // n] for i in range(n)]


def _class_fractions(study: Study, label: NDArray[Any]) -> tuple[float, ...]:
    """Fraction of pixels per class; a value that no class has counts for none (`study check` names it)."""
    values, counts = np.unique(label, return_counts=True)
    fractions = [0.0] * len(study.classes)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        index = study.label_values.get(value)
        if index is not None:
            fractions[index] += count / label.size
    return tuple(fractions)


def _in_words(values: Sequence[str | None]) -> str:
    """`45 (20 to 74)` for numbers of which there are many, `F 60 %, M 40 %` for others; and how many are missing."""
    given = [value for value in values if value is not None]
    missing = f"; {len(values) - len(given)} missing" if len(given) < len(values) else ""
    if not given:
        return "all missing"
    counts = Counter(given)
    numbers = [number for value in given if (number := _number(value)) is not None]
    if len(numbers) == len(given) and len(counts) > 5:
        return f"{statistics.median(numbers):g} ({min(numbers):g} to {max(numbers):g}){missing}"
    words = ", ".join(f"{value} {count / len(given):.0%}" for value, count in counts.most_common(4))
    return f"{words}{f', {len(counts) - 4} more' if len(counts) > 4 else ''}{missing}"


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _low_median_high(rows: Sequence[tuple[float, ...]]) -> tuple[tuple[float, ...], ...]:
    """Per axis; images with another number of axes than the first are not counted."""
    axes = [row for row in rows if len(row) == len(rows[0])]
    columns = list(zip(*axes, strict=True))
    return tuple(tuple(float(of(column)) for column in columns) for of in (min, statistics.median, max) if columns)


def _sizes(rows: Sequence[Sequence[float]], form: str) -> str:
    texts = ["×".join(form.format(value) for value in row) for row in rows]
    return " · ".join(texts if len(set(texts)) > 1 else texts[:1]) or "?"


def _caption(summary: StudySummary) -> str | None:
    sampled = any(site.read < site.cases for site in summary.sites)
    return "from some of the images of each site, spread over its rows; all of them with --all" if sampled else None
