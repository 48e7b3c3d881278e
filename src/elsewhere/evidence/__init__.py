"""What the numbers support."""

from elsewhere.evidence.estimands import NEW_SITE, THESE_MODELS, THIS_METHOD, over_these, sentence
from elsewhere.evidence.intervals import Interval, patient_interval, set_interval
from elsewhere.evidence.paired import Comparison, compare, compare_sets, probability_of_being_better
from elsewhere.evidence.permutation import holm
from elsewhere.evidence.run_scores import RunScores, mean_scores, set_scores
from elsewhere.evidence.runs import interval_of, interval_over, method_interval, method_set_interval
from elsewhere.evidence.sites import OverSites, mean_ranks, new_site_interval, over_sites

__all__ = [
    "NEW_SITE",
    "THESE_MODELS",
    "THIS_METHOD",
    "Comparison",
    "Interval",
    "OverSites",
    "RunScores",
    "compare",
    "compare_sets",
    "holm",
    "interval_of",
    "interval_over",
    "mean_ranks",
    "mean_scores",
    "method_interval",
    "method_set_interval",
    "new_site_interval",
    "over_sites",
    "over_these",
    "patient_interval",
    "probability_of_being_better",
    "sentence",
    "set_interval",
    "set_scores",
]
