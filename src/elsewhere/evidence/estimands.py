"""What an interval is about. Three questions are asked of one number; their intervals differ several times in width.

| estimand | what varies | form |
|---|---|---|
| `THESE_MODELS` | patients of the site | patients resampled, or Wilson's (`intervals`) |
| `THIS_METHOD` | patients of the site, and training runs | decomposition, each part with its own t (`runs`) |
| `NEW_SITE` | sites, besides | random-effects prediction (`sites`), from 5 held-out sites on |

The words of the constants are those of tables, captions and docs.
"""

from __future__ import annotations

THESE_MODELS = "these models at this site"
THIS_METHOD = "this method at this site"
NEW_SITE = "this method at a site like these"

_SAYS = {
    THESE_MODELS: (
        "other patients of the site, the models as they were trained; other seeds, other training data and other sites "
        "are not in it"
    ),
    THIS_METHOD: (
        "other patients of the site, and other training runs (seeds: split of the development patients, initial "
        "weights, order, augmentation); other sites are not in it"
    ),
    NEW_SITE: (
        "where the method's score would lie at one more site, if it were drawn like the held-out ones; with few sites "
        "this is wide, and whether a site is like these is not for statistics to say"
    ),
}


def sentence(estimand: str, level: float = 0.95) -> str:
    """The sentence below a table or a figure that says what its intervals hold.

    Args:
        estimand: one of the three.
        level: of the intervals.

    Raises:
        KeyError: no such estimand.
    """
    return f"[ ]: {100 * level:g} % interval for {estimand}: {_SAYS[estimand]}."


def over_these(n_sites: int) -> str:
    """`over these 4 held-out sites`: what a mean is of where nothing is said about others."""
    return "over this one held-out site" if n_sites == 1 else f"over these {n_sites} held-out sites"
