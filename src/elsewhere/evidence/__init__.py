"""What the numbers support.

Scores and their intervals, by estimand; methods compared; calibration; decisions. Subgroups by a covariate are in
`elsewhere.evidence.subgroups`.
"""

from elsewhere.evidence.bounded import doubt_of_row
from elsewhere.evidence.calibration import Reliability, debiased_ece, foreground_bins, label_bins, reliability
from elsewhere.evidence.confidence import case_confidence
from elsewhere.evidence.conformal import LabelSets, OuterMask, fit_label_sets, fit_outer_mask
from elsewhere.evidence.estimands import NEW_SITE, THESE_MODELS, THIS_METHOD, over_these, sentence
from elsewhere.evidence.intervals import Interval, patient_interval, set_interval
from elsewhere.evidence.operating import choose_threshold, detection, operating_point
from elsewhere.evidence.paired import Comparison, compare, compare_sets, probability_of_being_better
from elsewhere.evidence.permutation import holm
from elsewhere.evidence.run_scores import RunScores, mean_scores, set_scores
from elsewhere.evidence.runs import interval_of, interval_over, method_interval, method_set_interval
from elsewhere.evidence.selective import Curve, error_auroc, risk_coverage
from elsewhere.evidence.sites import OverSites, mean_ranks, new_site_interval, over_sites
from elsewhere.evidence.temperature import fit_temperature, scaled

__all__ = [
    "NEW_SITE",
    "THESE_MODELS",
    "THIS_METHOD",
    "Comparison",
    "Curve",
    "Interval",
    "LabelSets",
    "OuterMask",
    "OverSites",
    "Reliability",
    "RunScores",
    "case_confidence",
    "choose_threshold",
    "compare",
    "compare_sets",
    "debiased_ece",
    "detection",
    "doubt_of_row",
    "error_auroc",
    "fit_label_sets",
    "fit_outer_mask",
    "fit_temperature",
    "foreground_bins",
    "holm",
    "interval_of",
    "interval_over",
    "label_bins",
    "mean_ranks",
    "mean_scores",
    "method_interval",
    "method_set_interval",
    "new_site_interval",
    "operating_point",
    "over_sites",
    "over_these",
    "patient_interval",
    "probability_of_being_better",
    "reliability",
    "risk_coverage",
    "scaled",
    "sentence",
    "set_interval",
    "set_scores",
]
