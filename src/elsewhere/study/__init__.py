"""The data of several sites, and the seal on the site that is held out.

What needs torch (the seal and preprocessing) or the readers (the cache) is imported when it is first asked for. The
function that seals is `elsewhere.study.seal.seal`: here its name is that of its module.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from elsewhere.study.case import Case, Fold, Geometry, Picture, Split, StoredCase
from elsewhere.study.check import CheckReport, check_study
from elsewhere.study.config import Roles, StudyConfig, load_config
from elsewhere.study.contact_sheet import draw_contact_sheet
from elsewhere.study.description import describe, study_yaml
from elsewhere.study.manifest import parse_manifest
from elsewhere.study.new import new_study
from elsewhere.study.problem import Problem
from elsewhere.study.reading import read_image, read_label, read_map
from elsewhere.study.show import summarise
from elsewhere.study.splits import held_out_cases, parts_of_site, plan_folds, split
from elsewhere.study.study import Study, open_study, open_with_problems

if TYPE_CHECKING:
    from elsewhere.study.cache import Cache
    from elsewhere.study.held_out import HeldOut
    from elsewhere.study.preprocessing import Fingerprint, Preprocessing
    from elsewhere.study.seal import Development

__all__ = [
    "Cache",
    "Case",
    "CheckReport",
    "Development",
    "Fingerprint",
    "Fold",
    "Geometry",
    "HeldOut",
    "Picture",
    "Preprocessing",
    "Problem",
    "Roles",
    "Split",
    "StoredCase",
    "Study",
    "StudyConfig",
    "check_study",
    "describe",
    "draw_contact_sheet",
    "held_out_cases",
    "load_config",
    "new_study",
    "open_study",
    "open_with_problems",
    "parse_manifest",
    "parts_of_site",
    "plan_folds",
    "read_image",
    "read_label",
    "read_map",
    "split",
    "study_yaml",
    "summarise",
]

_LATER = {
    "Cache": "cache",
    "Development": "seal",
    "Fingerprint": "preprocessing",
    "HeldOut": "held_out",
    "Preprocessing": "preprocessing",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"elsewhere.study.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
