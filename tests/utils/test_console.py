import logging
import sys
from itertools import count
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from elmolite.utils import console
from elmolite.utils.console import ProgressBar, byte_size, display_width, html_table, n_of, printable, table


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, which the test sets."""
    now = SimpleNamespace(seconds=0)
    monkeypatch.setattr(console.time, "monotonic", lambda: now.seconds)
    return now


@pytest.mark.parametrize(("show", "is_logged"), [(True, True), (None, True), (False, False)])
@pytest.mark.parametrize(("is_estimate", "total"), [(False, "90,000"), (True, "about 90,000")])
def test_progress_without_a_terminal_is_a_line_every_15_seconds(
    clock, caplog, capsys, show, is_logged, is_estimate, total
):
    caplog.set_level(logging.INFO, "elmolite")
    options = {"total": 90_000, "is_estimate": is_estimate, "initial": 10_000, "show": show}
    with ProgressBar("embedding", unit="tokens", **options) as bar:
        for clock.seconds in range(0, 41, 4):
            bar.update(2_000, "loss 2.0")
    lines = [
        f"embedding: 20,000 of {total} tokens, 625 tokens/s, loss 2.0, 01:52 left",
        f"embedding: 28,000 of {total} tokens, 562 tokens/s, loss 2.0, 01:50 left",
    ]
    assert [record.getMessage() for record in caplog.records] == (lines if is_logged else [])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("show", "n_when_drawn"), [(True, 0), (None, 6), (False, None)])
@pytest.mark.parametrize("is_notebook", [True, False])
def test_a_bar_is_drawn_on_a_terminal_and_in_a_notebook(clock, monkeypatch, show, n_when_drawn, is_notebook):
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell if is_notebook else None))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: not is_notebook)
    opened = []

    def draw(bar):
        opened.append(bar.n)
        bar._bar = MagicMock()

    monkeypatch.setattr(ProgressBar, "_open_bar", draw)
    with ProgressBar("embedding", unit="tokens", total=10, show=show) as bar:
        for clock.seconds in (0, 4, 8):
            bar.update(2)
    assert opened == ([] if n_when_drawn is None else [n_when_drawn])


def test_the_bar_follows_a_total_that_becomes_known(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressBar("embedding", unit="tokens", show=True) as bar:
        bar.total = 200_000
        bar.update(100_000, "loss 2.0")
    assert "embedding:  50%" in (err := capsys.readouterr().err)
    assert "100k/200k" in err


def test_a_slow_rate_has_the_unit_of_a_fast_one(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    now = count(step=5)
    monkeypatch.setattr("tqdm.std.time", lambda: next(now))
    with ProgressBar("training", unit="runs", total=4, show=True) as bar:
        bar.update(1)
    assert "  0.20 runs/s]" in capsys.readouterr().err


def test_columns_are_aligned_in_every_script():
    lines = table([["名詞", "1"], ["é́", "1,000"], [], ["ab", "x"]]).split("\n")
    assert lines == ["名詞      1", "é́     1,000", "", "ab        x"]
    assert {display_width(line) for line in lines if line} == {11}


def test_numbers_have_their_unit():
    assert [n_of(n, "word type") for n in (0, 1, 1000)] == ["0 word types", "1 word type", "1,000 word types"]
    assert [byte_size(n) for n in (51, 23_456_789)] == ["51.0B", "23.5MB"]


def test_names_stay_on_their_line():
    assert printable("a\nb\x1b[31m") == "a�b�[31m"
    assert printable("") == "''"
    assert printable("x" * 50, width=10) == "x" * 9 + "…"
    assert display_width(printable("詞" * 50, width=10)) <= 10


def test_cells_of_html_are_escaped():
    rows = [["", "<b>"], ["a & b", "{}"]]
    cells = "<th></th><th>&lt;b&gt;</th>", "<td>a &amp; b</td><td>{}</td>"
    assert html_table(rows) == f"<table><tr>{cells[0]}</tr><tr>{cells[1]}</tr></table>"
