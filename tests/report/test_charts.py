"""Charts: everything on the axis, labels that differ, nothing where there is nothing to draw."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elsewhere.report.blocks import chance, number, p_value, percent, percents
from elsewhere.report.charts import Journey, Line, Span, Strip, curves, dumbbell, forest, strips
from elsewhere.report.charts.scale import WIDTH, Axis, powers, ticks

NAN = float("nan")


def places(chart: str, tag: str, *names: str) -> list[float]:
    return [float(one.get(name) or 0) for one in ET.fromstring(chart).iter(tag) for name in names]


def test_forest_puts_values_where_the_axis_says() -> None:
    spans = [Span("erm", 0, 0.5, 0.4, 0.6, "x", (0.3, 0.7)), Span("gin", 1, 0.6, NAN, NAN, "y")]
    chart = str(forest(spans, "t", across=(0.0, 1.0), line_at=0.5))
    zero = next(one for one in ET.fromstring(chart).iter("line") if one.get("class") == "zero")
    dots = places(chart, "circle", "cx")
    assert dots[0] == pytest.approx(float(zero.get("x1") or 0), abs=0.06)
    assert dots[1] > dots[0]
    assert len([one for one in ET.fromstring(chart).iter("line") if "span" in (one.get("class") or "")]) == 1
    assert len(re.findall('class="wide', chart)) == 1
    assert all(0 <= x <= WIDTH for x in dots)


def test_an_interval_beyond_the_axis_ends_at_its_end() -> None:
    chart = str(forest([Span("erm", 0, 0.5, -9, 9, "x")], "t", across=(0.0, 1.0)))
    assert all(0 <= x <= WIDTH for x in places(chart, "line", "x1", "x2"))


def test_long_names_fit_and_ticks_differ() -> None:
    chart = str(forest([Span("a-method-with-a-very-long-name", 0, 1.0, 1.0, 1.0, "1.0")], "t"))
    labels = re.findall(r'text-anchor="middle">([^<]+)<', chart)
    assert len(set(labels)) == len(labels) > 2
    (right, name) = re.findall(r'<text x="([\d.]+)" [^>]*text-anchor="end">([^<]+)<', chart)[0]
    assert name.endswith("…")
    assert float(right) >= 6.3 * len(name), "a letter of 10.5 px is 6.3 px wide at most, on the average"


@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(1e-6, 1e6, allow_nan=False),
)
def test_ticks_are_round_inside_and_told_apart(low: float, width: float) -> None:
    high = low + width
    if (high - low) < 1e-9 * max(abs(low), abs(high)):
        return
    found = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1)
    assert all(low - slack <= value <= high + slack for value, _ in found)
    assert len({text for _, text in found}) == len(found)


def test_a_logarithmic_axis_has_powers() -> None:
    assert [text for _, text in powers(math.log10(0.5), math.log10(300))] == ["1", "10", "100"]
    assert [text for _, text in powers(math.log10(0.15), math.log10(0.9))] == ["0.2", "0.5"]
    assert len(powers(math.log10(0.61), math.log10(0.69))) >= 1


def test_curves() -> None:
    steps = [(float(x), math.exp(-x)) for x in range(1, 6)]
    chart = str(curves([Line(steps, 0, "erm"), Line([(1, 0.5)], 1, "gin", faint=True)], "t", logarithmic=True))
    lines = [one.get("points") or "" for one in ET.fromstring(chart).iter("polyline")]
    points = [tuple(map(float, point.split(","))) for point in lines[-1].split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    slopes = {round(points[i + 1][1] - points[i][1], 0) for i in range(4)}
    assert len(slopes) <= 2, "an exponential is straight"
    assert len(places(chart, "circle", "cx")) == 1, "a single point is a dot"
    reliable = str(curves([Line([(0.6, 0.6)], 0, "erm", dots=True)], "t", across=(0, 1), up=(0, 1), diagonal=True))
    ideal = next(one for one in ET.fromstring(reliable).iter("polyline") if one.get("class") == "ideal")
    (x0, y0), (x1, y1) = (tuple(map(float, p.split(","))) for p in (ideal.get("points") or "").split())
    (x,), (y,) = places(reliable, "circle", "cx"), places(reliable, "circle", "cy")
    assert (y - y0) / (x - x0) == pytest.approx((y1 - y0) / (x1 - x0), abs=0.01), "on the diagonal"


def test_strips_show_the_quarters() -> None:
    chart = str(strips([Strip("erm", 0, [0.0, 0.25, 0.5, 0.75, 1.0, NAN])], "t", across=(0.0, 1.0)))
    axis = Axis(0, 1, float(places(chart, "rect", "x")[0]), 0)
    box = next(ET.fromstring(chart).iter("rect"))
    left, width = float(box.get("x") or 0), float(box.get("width") or 0)
    middle = next(one for one in ET.fromstring(chart).iter("line") if "median" in (one.get("class") or ""))
    assert float(middle.get("x1") or 0) == pytest.approx(left + width / 2, abs=0.2)
    assert axis.start == left
    assert chart.count("h0") == 5
    many = str(strips([Strip("erm", 0, [i / 1000 for i in range(1000)])], "t"))
    assert many.count("h0") == 300


def test_dumbbell_goes_from_home_to_elsewhere() -> None:
    chart = str(dumbbell([Journey("erm", 0, 0.9, 0.6), Journey("gin", 1, NAN, 0.7)], "t", reference=0.8))
    rings = [one for one in ET.fromstring(chart).iter("circle") if "ring" in (one.get("class") or "")]
    dots = [one for one in ET.fromstring(chart).iter("circle") if "dot" in (one.get("class") or "")]
    assert len(rings) == 1
    assert len(dots) == 2
    assert float(rings[0].get("cx") or 0) > float(dots[0].get("cx") or 0)
    assert "reference: 0.800" in chart


def test_axes_have_names_inside_of_the_chart() -> None:
    charts = [
        forest([Span("erm", 0, 0.5, 0.4, 0.6, "x")], "t", under="HD95 (mm)"),
        strips([Strip("erm", 0, [0.1, 0.2])], "t", under="HD95 (mm)"),
        dumbbell([Journey("erm", 0, 0.9, 0.6)], "t", under="HD95 (mm)"),
        curves([Line([(1, 0.5), (2, 0.6)], 0, "erm")], "t", under="HD95 (mm)", beside="<risk>"),
    ]
    for chart in charts:
        tree = ET.fromstring(str(chart))
        height = float((tree.get("viewBox") or "").split()[3])
        texts = {"".join(one.itertext()): float(one.get("y") or 0) for one in tree.iter("text")}
        lowest = max(y for text, y in texts.items() if text != "HD95 (mm)")
        assert lowest + 10 <= texts["HD95 (mm)"] < height, "below the numbers, and not cut"
    marks = [float(one.get("y1") or 0) for one in ET.fromstring(str(charts[-1])).iter("line")]
    assert 10 < texts["<risk>"] <= min(marks), "above the highest rule"


def test_dots_are_as_large_as_what_they_stand_for() -> None:
    line = Line([(0.5, 0.5), (0.7, NAN), (0.9, 0.9)], 0, "erm", dots=True, weights=[0.2, 0.0, 0.8])
    small, large = places(str(curves([line], "t")), "circle", "r")
    assert (large / small) ** 2 == pytest.approx(4, rel=0.1)


def test_the_ninth_method_is_not_drawn_as_the_first() -> None:
    lines = [Line([(1, 0.5), (2, 0.6)], colour, str(colour)) for colour in (0, 8, 16)]
    drawn = [one.get("class") for one in ET.fromstring(str(curves(lines, "t"))).iter("polyline")]
    assert drawn == ["bold c0", "bold c0 second", "bold c0"]


def test_charts_with_nothing_in_them() -> None:
    assert "nothing to draw" in curves([], "t")
    assert "nothing to draw" in curves([Line([(1, NAN)], 0, "erm")], "t")
    assert forest([Span("erm", 0, NAN, NAN, NAN, "undefined")], "t") == ""
    assert strips([Strip("erm", 0, [])], "t") == ""
    assert dumbbell([], "t") == ""
    assert "&lt;b&gt;" in forest([Span("<b>", 0, 0.5, 0.4, 0.6, "x")], "<i>")
    assert "<i>" not in forest([Span("<b>", 0, 0.5, 0.4, 0.6, "x")], "<i>")


def test_numbers_as_people_read_them() -> None:
    assert [number(-0.1234), number(0.5, 2, sign=True), number(NAN)] == ["−0.123", "+0.50", "–"]
    assert [percent(0.5), percent(0.012), percent(0.995), percent(1.0), percent(0.0)] == [
        "50 %", "1.2 %", "99.5 %", "100 %", "0 %"
    ]  # fmt: skip
    assert [chance(0.0), chance(0.5), chance(1.0), chance(NAN)] == ["< 0.01", "0.50", "> 0.99", "–"]
    assert [percents(0.5, 0.993), percents(0.01, 1.0), percents(NAN, 1.0)] == [
        "[50, 99.3 %]", "[1.0, 100 %]", "no interval"
    ]  # fmt: skip
    assert [p_value(0.0002), p_value(0.049), p_value(0.3)] == ["< 0.001", "0.049", "0.30"]


def test_points_with_little_behind_them_are_pale_and_so_is_the_line_to_them() -> None:
    points = [(0.5, 0.2), (0.6, 0.5), (0.7, 0.6), (0.8, 0.9)]
    line = Line(points, 0, "m", dots=True, weights=[0.01, 0.3, 0.3, 0.39], faded=[True, False, False, False])
    assert line.stretches == [(0, 1, True), (1, 3, False)]
    drawn = str(curves([line], "t"))
    assert drawn.count("<polyline") == 2
    assert drawn.count('class="bold c0 pale"') == 1
    assert drawn.count('class="dot c0 pale"') == 1
    whole = Line(points, 0, "m", dots=True, weights=[0.25] * 4, faded=[False] * 4)
    assert str(curves([whole], "t")).count("<polyline") == 1
    assert "pale" not in str(curves([whole], "t"))
    both = Line(points, 0, "m", faded=[False, True, False, False])
    assert both.stretches == [(0, 2, True), (2, 3, False)]
    known = Line([(0.1, float("nan")), *points], 0, "m", faded=[True, *[False] * 4]).drawn(False)
    assert list(known.faded) == [False] * 4, "a point that is left out takes its mark along"
