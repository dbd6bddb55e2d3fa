import math
import re
from itertools import pairwise

import pytest

from elmolite.reports import html


def test_text_is_escaped():
    text = "<b>&\"'"
    parts = [
        html.paragraph(text),
        html.code(text),
        html.tokens([text, "x"], marked=[0]),
        html.table([text], [[text]]),
        html.line_chart({text: [(0, 1), (1, 2)]}, x_label=text, y_label=text, levels={text: 1.5}),
    ]
    assert not any("<b>" in part for part in parts)
    page = html.page(text, [(text, parts)])
    assert page.count("&lt;b&gt;") == 2 + 1 + sum(part.count("&lt;b&gt;") for part in parts)
    assert "<b>" not in page


def test_line_chart():
    curves = {"a": [(0, 400.0), (100, 100.0)], "b": [(0, math.inf), (50, 250.0)], "none": [(0, math.nan)]}
    chart = html.line_chart(curves, x_label="step", y_label="perplexity", levels={"level": 250.0})
    paths = re.findall(r'class="curve[^"]*" d="M([^"]*)"', chart)
    a, b, level = ([tuple(map(float, point.split())) for point in path.split("L")] for path in paths)
    assert math.isclose(level[0][1], (a[0][1] + a[1][1]) / 2, abs_tol=0.1)
    assert b == [((a[0][0] + a[1][0]) / 2, level[0][1])]
    assert all(f">{end}<" in chart for end in ("a 100", "b 250", "level 250", "100", "250", "400", "step"))
    heights = sorted(float(y) for y in re.findall(r'class="t\d" x="[^"]*" y="([^"]*)"', chart))
    assert all(second - first >= 15 for first, second in pairwise(heights))
    assert html.line_chart({"none": []}, x_label="step", y_label="loss") == ""


@pytest.mark.parametrize("points", [[(0, 37.0)], [(0, 0.0), (1, -2.5)], [(5, 81.0), (6, 83.0)]])
def test_every_line_chart_has_ticks(points):
    chart = html.line_chart({"a": points}, x_label="step", y_label="loss")
    assert chart.count('class="grid"') >= 1
    assert "nan" not in chart
