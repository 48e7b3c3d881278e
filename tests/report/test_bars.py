"""Bars from zero: where they begin and end, which are pale, what is left out."""

from __future__ import annotations

import math
import re

from elsewhere.report.charts import Bar, Bars, bars
from elsewhere.report.charts.bars import reach

NAN = math.nan


def test_bars_begin_at_zero_and_end_at_their_value() -> None:
    rows = [Bars("t1 <b>", 1, [Bar(-0.4, -0.6, -0.2, "held out"), Bar(0.2, NAN, NAN, "home", home=True)])]
    text = str(bars([rows], "changes", across=(-1.0, 1.0)))
    found = re.findall(r'<line class="(bar[^"]*)" x1="([\d.]+)" x2="([\d.]+)"', text)
    assert [kind for kind, *_ in found] == ["bar c1", "bar pale c1"]
    (zero,) = re.findall(r'<line class="zero" x1="([\d.]+)"', text)
    (_, start, down), (_, again, up) = found
    assert start == again == zero
    # One axis from -1 to 1: the second bar goes half as far, to the other side.
    assert math.isclose(float(zero) - float(down), 2 * (float(up) - float(zero)), abs_tol=0.3)
    assert text.count('class="whisker"') == 1, "no interval, no whisker"
    assert "t1 &lt;b&gt;" in text


def test_what_is_not_known_is_not_drawn() -> None:
    assert bars([], "nothing") == ""
    assert bars([[Bars("a", 0, [Bar(NAN, NAN, NAN, "")])]], "nothing") == ""
    two = str(bars([[Bars("a", 0, [Bar(0.1, NAN, NAN, ""), Bar(NAN, NAN, NAN, "")])]], "one"))
    assert two.count('class="bar') == 1


def test_groups_have_room_between_them_and_one_axis() -> None:
    one = [Bars(name, 0, [Bar(0.1, 0.0, 0.2, "")]) for name in "ab"]
    heights = []
    for groups in ([one, one], [one + one]):
        (box,) = re.findall(r'viewBox="0 0 360 (\d+)"', str(bars(groups, "")))
        heights.append(int(box))
    assert heights[0] > heights[1]
    assert bars([one, [], one], "") == bars([one, one], ""), "an empty group is none"
    low, high = reach([[Bars("a", 0, [Bar(0.5, 0.4, 0.7, "")])]]) or (NAN, NAN)
    assert low < 0 < 0.7 < high, "zero is always on the axis"
