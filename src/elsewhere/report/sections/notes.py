"""What the brackets of all tables hold, said once."""

from __future__ import annotations

from elsewhere.evidence.estimands import NEW_SITE, THESE_MODELS, THIS_METHOD, sentence
from elsewhere.report.blocks import Facts, Section

NAME, TITLE = "notes", "How to read the numbers"


def section() -> Section:
    """The three estimands, and the words of verdicts."""
    about = {"[ ]": THESE_MODELS, "( )": THIS_METHOD, "a site like these": NEW_SITE}
    facts = [(mark, sentence(estimand).removeprefix("[ ]: ")) for mark, estimand in about.items()]
    facts += [
        ("no interval", "One patient, all score alike, or so few patients of a class that the metric is undefined "
         "without one or two of them, or in more than 10 % of the resamples; a mean has none where a site has none."),
        ("better, worse", "The corrected test says so, and there is an interval for these models. For these models "
         "only: train again, and it may be gone."),
        ("not told apart", "No proof of being equal: look how wide the intervals are."),
    ]  # fmt: skip
    return Section(NAME, TITLE, [Facts(facts)])
