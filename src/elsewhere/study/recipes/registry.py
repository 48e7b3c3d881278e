"""All recipes by name: a data set joins here, and in the names that the command line offers."""

from __future__ import annotations

from collections.abc import Mapping

from elsewhere.study.recipes import amos, hvsmr, msd_brats, pancreasdg, prostate_multisite, topcow
from elsewhere.study.recipes.recipe import Recipe

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        msd_brats.RECIPE,
        amos.RECIPE,
        hvsmr.RECIPE,
        topcow.RECIPE,
        prostate_multisite.RECIPE,
        pancreasdg.RECIPE,
    )
}
