"""The data of several sites, and the seal on the site that is held out."""

from elsewhere.study.case import Case, Fold, Geometry, Picture, Split, StoredCase
from elsewhere.study.config import Roles, StudyConfig, load_config
from elsewhere.study.inference import describe, study_yaml
from elsewhere.study.manifest import parse_manifest
from elsewhere.study.problem import Problem
from elsewhere.study.splits import held_out_cases, plan_folds, split
from elsewhere.study.study import Study, open_study, open_with_problems

__all__ = [
    "Case",
    "Fold",
    "Geometry",
    "Picture",
    "Problem",
    "Roles",
    "Split",
    "StoredCase",
    "Study",
    "StudyConfig",
    "describe",
    "held_out_cases",
    "load_config",
    "open_study",
    "open_with_problems",
    "parse_manifest",
    "plan_folds",
    "split",
    "study_yaml",
]
