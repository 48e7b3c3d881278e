"""PancreasDG, pancreas in MR of several centres: the sites are centres and phases.

Second-hand: the release (huggingface.co/datasets/ppplllkkk/PancreasDG, since taken up in CrossPan) could not be looked
at, so two layouts are read that public code shows.

The authors' own (scripts of NUBagciLab/nnUNetDG): venous phase, but for the folders called `OutPhase`.

    in_domain/MCF, in_domain/NYU                                        imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz
    out_of_domain/EMC, NU, IU, OutPhaseEMC, OutPhaseNU                  likewise

The in-domain centres train, the venous ones out of domain validate, out of phase is the test (our reading: DropGen's
shift is from one phase to the other). A centre's venous and out-of-phase folder may hold the same people under the same
names; equal names are taken for one patient, who is never on both sides.

DropGen's (its code): the folders say no more than who trains, so they are the sites.

    train/images/CASE.nii.gz, train/labels/CASE.nii.gz; val and test likewise

1.09 x 1.09 x 4.4 mm, crops of 256 x 256 x 64 (DropGen's code).
"""

from __future__ import annotations

from pathlib import Path

from elsewhere.errors import StudyError
from elsewhere.study.case import Case
from elsewhere.study.recipes.layout import contents, matched, roles, subfolders, volumes
from elsewhere.study.recipes.recipe import Recipe
from elsewhere.study.sources import Source

TITLE = "PancreasDG"
DOMAINS = ("in_domain", "out_of_domain")
PARTS = ("train", "val", "test")
OTHER_PHASE = "OutPhase"


def read(root: Path) -> Source:
    """Cases `NYU/CASE` and so on; covariate `phase` where the layout tells it."""
    for place in (root, *subfolders(root)):
        if all((place / domain).is_dir() for domain in DOMAINS):
            return _by_centre(place)
        if all((place / part / "images").is_dir() for part in PARTS):
            return _by_part(place)
    raise StudyError(
        f"{root}: is not {TITLE}; looked for the folders 'in_domain' and 'out_of_domain', or 'train', 'val' and 'test' "
        f"with 'images' in each, found {contents(root)}"
    )


def _by_centre(root: Path) -> Source:
    sites = {domain: [f for f in subfolders(root / domain) if (f / "imagesTr").is_dir()] for domain in DOMAINS}
    for domain, found in sites.items():
        if not found:
            raise StudyError(
                f"{root / domain}: holds no folder with 'imagesTr'; wanted one for each centre of {TITLE}, found "
                f"{contents(root / domain)}"
            )
    cases = [case for found in sites.values() for site in found for case in _of_centre(site)]
    trains, others = ([folder.name for folder in sites[domain]] for domain in DOMAINS)
    test = [site for site in others if site.startswith(OTHER_PHASE)]
    if not test:
        raise StudyError(
            f"{root / DOMAINS[1]}: holds no folder called {OTHER_PHASE}...; wanted the out-of-phase scans of {TITLE}, "
            f"found {contents(root / DOMAINS[1])}"
        )
    validation = [site for site in others if site not in test]
    return Source(cases, _declared(roles(root, cases, train=trains, validation=validation, test=test)))


def _by_part(root: Path) -> Source:
    cases = [case for part in PARTS for case in _cases(root / part, ("images", "labels"))]
    return Source(cases, _declared(roles(root, cases, train=["train"], validation=["val"], test=["test"])))


def _cases(site: Path, folders: tuple[str, str], centre: str = "", phase: str | None = None) -> list[Case]:
    inside = site / folders[0], site / folders[1]
    images = {stem.removesuffix("_0000"): path for stem, path in volumes(inside[0]).items()}
    labels = volumes(inside[1])
    return [
        Case(
            id=f"{site.name}/{stem}",
            images={"image": images[stem]},
            label=labels[stem],
            site=site.name,
            patient=f"{centre}-{stem}" if centre else stem,
            covariates={"phase": phase} if phase else {},
        )
        for stem in matched(images, labels, inside)
    ]


def _of_centre(site: Path) -> list[Case]:
    other = site.name.startswith(OTHER_PHASE)
    centre = site.name.removeprefix(OTHER_PHASE)
    return _cases(site, ("imagesTr", "labelsTr"), centre, "out-of-phase" if other else "venous")


def _declared(protocol: dict[str, list[str]]) -> dict[str, object]:
    return {
        "task": "segmentation",
        "classes": {"background": 0, "pancreas": 1},
        "spacing": [1.09, 1.09, 4.4],
        "patch_size": [256, 256, 64],
        "roles": protocol,
    }


RECIPE = Recipe("pancreasdg", TITLE, "phase and centre", "https://pancreasdg.netlify.app", read)
