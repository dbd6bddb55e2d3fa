import sys

import numpy as np
import pytest

from elmolite.reports import plots

HOSTILE = ["$x$", "US$", "_hidden", "", "名詞", "a\nb", r"\frac{", "x" * 300]


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, as matplotlib's plots, besides the files."""
    saved = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: saved.append(figure) or save(figure, path))
    return saved


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def overlaps(texts):
    """Whether two texts cover the same place."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_confusion_matrix_with_counts(tmp_path, drawn):
    counts = np.array([[5000, 5000, 0], [0, 5000, 0], [0, 0, 0]])
    path = plots.draw_confusion(["no", "yes", "maybe"], counts, tmp_path / "a.png", title="Answers")
    assert path == tmp_path / "a.png"
    assert is_png(path)
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["5000", "5000", "5000"]
    shades = axes.images[0].get_array()
    assert np.square(shades[0]).tolist() == pytest.approx([0.5, 0.5, 0])
    assert np.isnan(np.ma.filled(shades, np.nan)[2]).all()


@pytest.mark.parametrize("n_labels", [1, 3, 20, 200])
def test_confusion_labels_do_not_overlap(tmp_path, drawn, n_labels):
    labels = [f"label {i} of many labels" for i in range(n_labels)]
    counts = np.diag(np.arange(n_labels, 0, -1))
    assert is_png(plots.draw_confusion(labels, counts, tmp_path / "a.png", title="T" * 500))
    axes = drawn[0].axes[0]
    assert not overlaps(axes.get_yticklabels())
    assert not overlaps(axes.get_xticklabels())
    assert len(axes.get_yticks()) == min(n_labels, 50)
    assert bool(axes.texts) == (n_labels <= 20)


def test_curves_skip_missing_values(tmp_path, drawn):
    losses = {"training": [3.0, 2.0, 1.0], "dev": [2.5, None, float("nan")]}
    metrics = {"span F1": [0.2, 0.6, 0.5]}
    path = plots.draw_training(tmp_path / "a.png", losses=losses, metrics=metrics, title="T")
    assert is_png(path)
    above, below = drawn[0].axes
    assert [line.get_xdata().tolist() for line in above.lines] == [[1, 2, 3], [1]]
    assert below.get_legend().get_texts()[0].get_text() == "span F1, highest 0.6 at 2"
    assert below.get_xlabel() == "epoch"


def test_layer_weights_and_probes(tmp_path, drawn):
    mixes = {"tagger": [0.2, 0.8], "a classifier of many sentences": [0.5, 0.5]}
    names = ["token", "LSTM 1"]
    assert is_png(plots.draw_layer_weights(mixes, tmp_path / "a.png", title="Mixes", layer_names=names))
    bars = drawn[0].axes[0].containers
    assert [[bar.get_height() for bar in part] for part in bars] == [[0.2, 0.5], [0.8, 0.5]]
    assert not overlaps(drawn[0].axes[0].get_xticklabels())
    scores, options = {"pretrained": [0.8, 0.9], "untrained": [0.7, 0.6]}, {"metric": "accuracy", "title": "P"}
    path = tmp_path / "b.png"
    assert is_png(plots.draw_probe(scores, path, layer_names=names, baselines={"most frequent": 0.1}, **options))
    axes = drawn[1].axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == names
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [*scores, "most frequent"]


def test_names_are_drawn_literally(tmp_path, drawn):
    path = tmp_path / "a.png"
    plots.draw_confusion(HOSTILE, np.eye(len(HOSTILE), dtype=int), path, title=r"$\frac{$ 名")
    plots.draw_layer_weights({name: [1.0] for name in HOSTILE}, path, title="$", layer_names=["_$a$"])
    plots.draw_probe({name: [1.0] for name in HOSTILE}, path, metric="$m$", title="", layer_names=["$"], baselines={})
    plots.draw_training(path, losses={name: [1.0] for name in HOSTILE}, metrics={}, title="_")
    assert len(drawn[2].axes[0].get_legend().get_texts()) == len(HOSTILE)


def test_without_matplotlib_nothing_is_drawn(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    caplog.set_level("INFO", logger="elmolite")
    plots._note_missing_matplotlib.cache_clear()
    path = tmp_path / "a.png"
    assert plots.draw_confusion(["a"], np.ones((1, 1), int), path, title="T") is None
    assert plots.draw_training(path, losses={"a": [1.0]}, metrics={}, title="T") is None
    assert caplog.messages == ["plots are not drawn: matplotlib is not installed (pip install 'elmolite[plot]')"]
    assert not path.exists()


def test_global_matplotlib_state_is_unchanged(tmp_path):
    import matplotlib
    from matplotlib import pyplot

    before = (matplotlib.get_backend(), dict(matplotlib.rcParams), pyplot.get_fignums())
    plots.draw_layer_weights({"a": [1.0]}, tmp_path / "a.png", title="T", layer_names=["b"])
    assert (matplotlib.get_backend(), dict(matplotlib.rcParams), pyplot.get_fignums()) == before
