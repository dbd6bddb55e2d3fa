import json
import statistics

import pytest
from small_tasks import config, setup_of, weights_of, write_classes, write_pairs, write_tagged, write_vectors

from elmolite.errors import InputError
from elmolite.tasks.compare import Comparison, baselines, compare, draw_profile, probes
from elmolite.tasks.heads import ClassifyConfig, EntailConfig, TagConfig

pytestmark = pytest.mark.usefixtures("no_pictures", "own_cache")

LAYERS = ["token layer", "LSTM layer 1", "LSTM layer 2"]


def compared(ways, out, *, n_seeds=1, overwrite=False, show_progress=False, **changes):
    options = {"n_epochs": 1, **changes}
    return compare(
        ways,
        config(**options),
        out=out,
        n_seeds=n_seeds,
        cache=out.parent / "cache",
        overwrite=overwrite,
        show_progress=show_progress,
    )


@pytest.fixture
def setup(tmp_path, model_folder):
    files = {name: write_classes(tmp_path / f"{name}.txt", seed=i) for i, name in enumerate(("train", "dev", "test"))}
    return setup_of(model_folder, "classify", **files, head=ClassifyConfig(kind="linear", pooling="mean"))


def read(ways):
    """What a head reads in each way, and of which language model."""
    return {
        name: (each.inputs.layers, each.inputs.static is not None, each.is_untrained) for name, each in ways.items()
    }


def test_baselines_have_less_than_the_task_as_it_is_set_up(setup):
    assert read(baselines(setup)) == {
        "mix": ("mix", False, False),
        "average": ("average", False, False),
        "top": ("top", False, False),
        "token": ("token", False, False),
        "untrained, mix": ("mix", False, True),
    }


def test_baselines_of_layers_beside_static_vectors(tmp_path, model_folder):
    setup = setup_of(
        model_folder, "classify", train=write_classes(tmp_path / "a.txt"), static="vectors.txt", layers="top",
        mixes_at_output=True,
    )  # fmt: skip
    ways = baselines(setup)
    assert read(ways) == {
        "top and static": ("top", True, False),
        "mix": ("mix", False, False),
        "average": ("average", False, False),
        "top": ("top", False, False),
        "token": ("token", False, False),
        "untrained, top and static": ("top", True, True),
        "untrained, mix": ("mix", False, True),
        "static vectors only": ("none", True, False),
    }
    assert ways["top and static"] is setup
    assert not any(ways[name].inputs.mixes_at_output for name in ("mix", "token", "static vectors only"))


def test_probes_are_linear_on_each_layer_and_the_mix(tmp_path, model_folder):
    heads = {
        "classify": (write_classes, ClassifyConfig(kind="linear", pooling="mean", dropout=0.0)),
        "tag": (write_tagged, TagConfig(kind="linear", crf="never", dropout=0.0)),
        "entail": (write_pairs, EntailConfig(kind="linear", dropout=0.0)),
    }
    for task, (write, head) in heads.items():
        setup = setup_of(model_folder, task, train=write(tmp_path / task), mixes_at_output=True, dropout=0.4)
        ways = probes(setup)
        expected = {name: (layers, False, False) for name, layers in zip([*LAYERS, "mix"], "012m", strict=True)}
        expected["mix"] = ("mix", False, False)
        expected |= {f"untrained, {name}": (layers, False, True) for name, (layers, _, _) in expected.items()}
        assert read(ways) == expected
        assert {each.head == head for each in ways.values()} == {True}
        assert {(each.inputs.dropout, each.inputs.mixes_at_output) for each in ways.values()} == {(0.0, False)}


def test_a_table_of_means_and_deviations(tmp_path, setup, capsys):
    comparison = compared({"as it is": setup}, tmp_path / "out", n_seeds=3, seed=4, show_progress=True)
    results = comparison.results["as it is"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "as-it-is-4", "as-it-is-5", "as-it-is-6", "comparison.json"
    ]  # fmt: skip
    assert len({weights_of(result) for result in results}) == 3
    dev, test = ([getattr(result, part).value for result in results] for part in ("dev", "test"))
    described = comparison.describe()
    for values in (dev, test):
        assert f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}" in described
    assert described.endswith("mean ± standard deviation of 3 seeds")
    assert "test accuracy" in described
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    of_way = content["as it is"]
    assert (of_way["measure"], of_way["best_epoch"]) == ("accuracy", [1, 1, 1])
    for part, values in (("dev", dev), ("test", test)):
        assert of_way[part]["values"] == values
        assert of_way[part]["mean"] == pytest.approx(statistics.mean(values))
        assert of_way[part]["deviation"] == pytest.approx(statistics.stdev(values))
    assert "as it is, seed 6" in capsys.readouterr().out


def test_one_seed_has_no_deviation_and_without_a_test_there_is_no_column(tmp_path, model_folder):
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    described = compared({"a": setup}, tmp_path / "out").describe()
    assert "±" not in described
    assert "test" not in described


def test_the_language_model_is_referred_to(tmp_path, setup):
    (result,) = compared({"a": setup}, tmp_path / "out").results["a"]
    assert not (result.folder / "encoder").exists()


def test_every_run_begins_with_the_language_model_as_it_was(tmp_path, setup):
    comparison = compared({"a": setup, "b": setup}, tmp_path / "out", encoder_training="all")
    first, other = (
        [(each.folder / "encoder" / "model.safetensors").read_bytes(), weights_of(each)]
        for (each,) in comparison.results.values()
    )
    assert first == other


def test_an_earlier_comparison_is_replaced_only_when_asked(tmp_path, setup):
    compared({"a": setup}, tmp_path / "out")
    before = (tmp_path / "out" / "comparison.json").read_bytes()
    with pytest.raises(InputError, match=r"holds a comparison already, whole or broken off: .*--overwrite"):
        compared({"b": setup}, tmp_path / "out")
    assert (tmp_path / "out" / "comparison.json").read_bytes() == before
    assert not (tmp_path / "out" / "b-0").exists()
    compared({"b": setup}, tmp_path / "out", overwrite=True)
    assert list(json.loads((tmp_path / "out" / "comparison.json").read_text())) == ["b"]


def test_what_is_done_is_kept_when_a_run_fails(tmp_path, setup, model_folder):
    static = write_vectors(tmp_path / "vectors.txt")
    broken = setup_of(model_folder, "classify", train=tmp_path / "train.txt", layers="none", static=str(static))
    static.unlink()
    with pytest.raises(InputError, match=r"vectors\.txt"):
        compared({"a": setup, "broken": broken}, tmp_path / "out")
    assert list(json.loads((tmp_path / "out" / "comparison.json").read_text())) == ["a"]


def test_the_profile_draws_the_means_of_the_test_values(tmp_path, setup, monkeypatch):
    drawn = {}

    def draw(profiles, path, **options):
        drawn.update(profiles=profiles, path=path, **options)

    monkeypatch.setattr("elmolite.reports.plots.draw_probe", draw)
    ways = {name: each for name, each in probes(setup).items() if not name.startswith("untrained")}
    comparison = compared(ways, tmp_path / "out")
    of_untrained = {f"untrained, {name}": results * 2 for name, results in comparison.results.items()}
    draw_profile(Comparison({**comparison.results, **of_untrained}), 3, tmp_path / "p.png")
    values = [comparison.results[name][0].test.value for name in LAYERS]
    assert drawn["profiles"] == {"pretrained": values, "untrained": values}
    mix = comparison.results["mix"][0].test.value
    assert drawn["baselines"] == {"pretrained, mix": mix, "untrained, mix": mix}
    assert drawn["metric"] == "test accuracy"
    assert drawn["layer_names"] == LAYERS
