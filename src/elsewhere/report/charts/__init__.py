"""Charts as inline SVG: no script, no font, no colour of their own. Colours are classes (`c0` to `c7`) of the page."""

from elsewhere.report.charts.bars import Bar, Bars, bars
from elsewhere.report.charts.curves import Line, curves
from elsewhere.report.charts.dumbbell import Journey, dumbbell
from elsewhere.report.charts.forest import Span, forest
from elsewhere.report.charts.strips import Strip, strips

__all__ = ["Bar", "Bars", "Journey", "Line", "Span", "Strip", "bars", "curves", "dumbbell", "forest", "strips"]
