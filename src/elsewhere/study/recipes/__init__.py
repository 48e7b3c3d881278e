"""Studies from public data sets as they are distributed, one file a set; see `elsewhere study new --from`."""

from elsewhere.study.recipes.recipe import Recipe
from elsewhere.study.recipes.registry import RECIPES

__all__ = ["RECIPES", "Recipe"]
