import json
import statistics

import pytest
from helpers.small_tasks import WRITERS, config, setup_of, weights_of, write_classes, write_vectors

from elmolite.errors import InputError
from elmolite.tasks.compare import baselines, compare, draw_profile, probes
from elmolite.tasks.config import ClassifyConfig, EntailConfig, TagConfig

pytestmark = pytest.mark.usefixtures("no_pictures", "own_cache")

LAYERS = ["token layer", "LSTM layer 1", "LSTM layer 2"]


def compared(runs, out, *, n_seeds=1, overwrite=False, on_result=None, **changes):
    options = {"n_seeds": n_seeds, "overwrite": overwrite, "on_result": on_result, "cache": out.parent / "cache"}
    return compare(runs, config(**{"n_epochs": 1, **changes}), out=out, **options)


@pytest.fixture
def run(tmp_path, model_folder):
    files = {name: write_classes(tmp_path / f"{name}.txt", seed=i) for i, name in enumerate(("train", "dev", "test"))}
    return setup_of(model_folder, "classify", **files, head=ClassifyConfig(kind="linear", pooling="mean"))


def inputs_of(runs):
    """Layers, whether there are static vectors, and whether the language model is untrained, of each run."""
    return {name: (run.inputs.layers, run.inputs.static is not None, run.random_init) for name, run in runs.items()}


def test_baselines_of_layers_and_static_vectors(tmp_path, model_folder):
    options = {"static": "vectors.txt", "layers": "top", "output_mix": True}
    runs = baselines(setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"), **options))
    assert inputs_of(runs) == {
        "top and static": ("top", True, False),
        "mix": ("mix", False, False),
        "average": ("average", False, False),
        "top": ("top", False, False),
        "token": ("token", False, False),
        "untrained, top and static": ("top", True, True),
        "untrained, mix": ("mix", False, True),
        "static vectors only": ("none", True, False),
    }
    assert not any(runs[name].inputs.output_mix for name in ("mix", "token", "static vectors only"))


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("classify", ClassifyConfig(kind="linear", pooling="mean", dropout=0.0)),
        ("tag", TagConfig(kind="linear", crf="never", dropout=0.0)),
        ("entail", EntailConfig(kind="linear", dropout=0.0)),
    ],
)
def test_probes_are_linear_on_each_layer_and_the_mix(tmp_path, model_folder, task, head):
    runs = probes(setup_of(model_folder, task, train=WRITERS[task](tmp_path / "a"), output_mix=True, dropout=0.4))
    layers = dict(zip([*LAYERS, "mix"], ["0", "1", "2", "mix"], strict=True))
    expected = {name: (layer, False, False) for name, layer in layers.items()}
    assert inputs_of(runs) == expected | {f"untrained, {name}": (layers[name], False, True) for name in layers}
    assert all(each.head == head for each in runs.values())
    assert {(each.inputs.dropout, each.inputs.output_mix) for each in runs.values()} == {(0.0, False)}


def test_a_table_of_means_and_deviations(tmp_path, run, caplog):
    caplog.set_level("INFO", logger="elmolite")
    reported = []
    comparison = compared(
        {"as it is": run}, tmp_path / "out", n_seeds=2, seed=4, on_result=lambda *each: reported.append(each)
    )
    results = comparison.results["as it is"]
    assert reported == [("as it is", result) for result in results]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["as-it-is-4", "as-it-is-5", "comparison.json"]
    assert len({weights_of(result) for result in results}) == 2
    assert not (results[0].folder / "encoder").exists()
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())["as it is"]
    assert (content["measure"], content["best_epoch"]) == ("accuracy", [1, 1])
    described = comparison.describe()
    for part in ("dev", "test"):
        values = [getattr(result, part).value for result in results]
        assert f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}" in described
        assert content[part]["values"] == values
    assert described.split("\n")[1].split()[-3] in comparison._repr_html_()
    assert repr(comparison) == "Comparison(as it is)"
    assert "as it is, seed 5" in caplog.text


def test_an_earlier_comparison_is_replaced_only_when_asked(tmp_path, run):
    compared({"a": run}, tmp_path / "out")
    with pytest.raises(InputError, match="n_seeds must be positive, got 0"):
        compared({"a": run}, tmp_path / "none", n_seeds=0)
    with pytest.raises(InputError, match=r"contains an earlier comparison: .*`overwrite=True`"):
        compared({"b": run}, tmp_path / "out")
    assert not (tmp_path / "out" / "b-0").exists()
    comparison = compared({"b": run, "c": run}, tmp_path / "out", overwrite=True, encoder_training="all")
    assert list(json.loads((tmp_path / "out" / "comparison.json").read_text())) == ["b", "c"]
    first, other = (
        [(each.folder / "encoder" / "model.safetensors").read_bytes(), weights_of(each)]
        for (each,) in comparison.results.values()
    )
    assert first == other  # every run starts from the same language model


def test_finished_runs_are_kept_when_one_fails(tmp_path, run, model_folder):
    static = write_vectors(tmp_path / "vectors.txt")
    broken = setup_of(model_folder, "classify", train=tmp_path / "train.txt", layers="none", static=str(static))
    static.unlink()
    with pytest.raises(InputError, match=r"vectors\.txt"):
        compared({"a": run, "broken": broken}, tmp_path / "out")
    assert list(json.loads((tmp_path / "out" / "comparison.json").read_text())) == ["a"]


def test_the_profile_plots_the_means_of_the_test_scores(tmp_path, run, monkeypatch):
    drawn = {}
    monkeypatch.setattr("elmolite.reports.plots.draw_probe", lambda profiles, path, **o: drawn.update(o, p=profiles))
    comparison = compared(probes(run), tmp_path / "out")
    draw_profile(comparison, 3, tmp_path / "p.png")
    scores = {name: result.test.value for name, (result,) in comparison.results.items()}
    assert drawn["p"] == {
        "pretrained": [scores[name] for name in LAYERS],
        "untrained": [scores[f"untrained, {name}"] for name in LAYERS],
    }
    assert drawn["baselines"] == {"pretrained, mix": scores["mix"], "untrained, mix": scores["untrained, mix"]}
    assert (drawn["metric"], drawn["layer_names"]) == ("test accuracy", LAYERS)
