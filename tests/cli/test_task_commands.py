import io
import json

import pytest
from small_tasks import setup_of, span_tags, train, write_classes, write_label_sets, write_pairs, write_tagged

from elmolite.cli.main import main
from elmolite.tasks.checkpoint import TaskCheckpoint

pytestmark = pytest.mark.usefixtures("own_cache")

QUICK = [
    "--n-epochs",
    3,
    "--batch-size",
    8,
    "--learning-rate",
    0.03,
    "--head.dropout",
    0,
    "--input.normalization=layer",
]


def run(*arguments):
    return main([str(argument) for argument in arguments])


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def files(tmp_path):
    """Examples to learn from, to choose by and to measure, as arguments."""
    paths = {name: write_classes(tmp_path / f"{name}.txt", seed=i) for i, name in enumerate(("train", "dev", "test"))}
    return [part for name, path in paths.items() for part in (f"--{name}", path)]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_from_examples_to_predictions(tmp_path, model_folder, files, own_cache, capsys):
    out = tmp_path / "run"
    assert run("finetune", "classify", "--encoder", model_folder, *files, "--out", out, *QUICK, "--n-epochs", 8) == 0
    said = capsys.readouterr()
    assert "epoch 8: loss" in said.out
    assert "weights of the layers at the input: 0." in said.out
    assert f"model: {out / 'model'}\nnext: elmolite predict {out} --input FILE" in said.out
    assert str(own_cache) in said.err
    assert names(out) == ["confusion.png", "layers.png", "log.csv", "metrics.json", "model", "training.png"]
    assert all(is_png(path) for path in out.glob("*.png"))
    test_value = json.loads((out / "metrics.json").read_text())["test"]["value"]

    assert run("test", out, tmp_path / "test.txt") == 0
    said = capsys.readouterr().out
    assert said.endswith(f"accuracy {test_value:.4f}\n")
    assert "macro average" in said
    assert run("test", out / "model", tmp_path / "test.txt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["value"] == test_value

    (tmp_path / "new.txt").write_text("ban bast\nkin\nnaïve\n", encoding="utf-8")
    assert run("predict", out, "--input", tmp_path / "new.txt") == 0
    lines = capsys.readouterr().out.splitlines()
    found = [json.loads(line) for line in lines]
    assert [record["text"] for record in found] == ["ban bast", "kin", "naïve"]
    assert "naïve" in lines[2]
    assert [record["label"] for record in found[:2]] == ["left", "right"]
    assert run("predict", out, "--input", tmp_path / "new.txt", "--output", tmp_path / "new.jsonl") == 0
    assert (tmp_path / "new.jsonl").read_text(encoding="utf-8").splitlines() == lines
    assert capsys.readouterr().out == f"{tmp_path / 'new.jsonl'}: 3 predictions\n"


@pytest.mark.usefixtures("no_pictures")
def test_spans_and_pairs_and_label_sets(tmp_path, model_folder, capsys):
    paths = {
        "tag": write_tagged(tmp_path / "a.conll", span_tags),
        "entail": write_pairs(tmp_path / "a.tsv"),
        "classify": write_label_sets(tmp_path / "b.tsv"),
    }
    expected = {"tag": "K", "entail": "same", "classify": "ba"}
    for task, path in paths.items():
        columns = ["--columns.label-separator", "|"] if task == "classify" else []
        small = ["--head.hidden-size", 4, "--n-epochs", 1]
        arguments = ["--encoder", model_folder, "--train", path, "--dev", path, "--out", tmp_path / task, *columns]
        assert run("finetune", task, *arguments, *QUICK, *small) == 0
        assert expected[task] in capsys.readouterr().out
        assert run("test", tmp_path / task, path, *columns) == 0
        said = capsys.readouterr().out
        assert said.splitlines()[-1].startswith("accuracy" if task == "entail" else "F1")
        assert run("predict", tmp_path / task, "--input", path, *columns) == 0
        assert all("gold" in json.loads(line) for line in capsys.readouterr().out.splitlines()[:3])


def test_pictures_are_of_what_there_is(tmp_path, model_folder):
    """No mix is learnt from one layer, and sets of labels are not confused."""
    path = write_label_sets(tmp_path / "a.tsv")
    files = ["--train", path, "--dev", path, "--columns.label-separator", "|"]
    options = [*QUICK, "--n-epochs", 1, "--input.layers", "top", "--head.kind", "linear"]
    assert run("finetune", "classify", "--encoder", model_folder, *files, "--out", tmp_path / "run", *options) == 0
    assert names(tmp_path / "run") == ["log.csv", "metrics.json", "model", "training.png"]


@pytest.mark.usefixtures("no_pictures")
def test_several_seeds(tmp_path, model_folder, files, capsys):
    arguments = ["--encoder", model_folder, *files, "--out", tmp_path / "out", *QUICK, "--head.kind", "linear"]
    assert run("finetune", "classify", *arguments, "--seeds", 2, "--seed", 3, "--n-epochs", 1) == 0
    said = capsys.readouterr().out
    assert "mean ± standard deviation of 2 seeds" in said
    assert "classify, seed 4" in said
    assert names(tmp_path / "out") == ["classify-3", "classify-4", "comparison.json"]
    predict = ["predict", tmp_path / "out" / "classify-4", "--input", tmp_path / "test.txt"]
    assert run(*predict) == 2
    assert "its language model is not in it" in capsys.readouterr().err
    assert run(*predict, "--encoder", model_folder) == 0


@pytest.mark.usefixtures("no_pictures")
def test_baselines(tmp_path, model_folder, files, capsys):
    arguments = ["--encoder", model_folder, *files, "--out", tmp_path / "out", *QUICK, "--head.kind", "linear"]
    assert run("finetune", "classify", *arguments, "--baselines", "--n-epochs", 1) == 0
    rows = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert rows[0].split() == ["dev", "accuracy", "test", "accuracy", "epochs", "s", "an", "epoch"]
    assert [row.split("  ")[0] for row in rows[1:6]] == ["mix", "average", "top", "token", "untrained, mix"]


@pytest.mark.usefixtures("no_pictures")
def test_a_probe_of_each_layer(tmp_path, model_folder, files, capsys):
    arguments = ["--encoder", model_folder, *files, "--out", tmp_path / "out", *QUICK]
    assert run("finetune", "classify", *arguments, "--probe", "--n-epochs", 1) == 0
    rows = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    layers = ["token layer", "LSTM layer 1", "LSTM layer 2", "mix"]
    assert [row.split("  ")[0] for row in rows[1:-1]] == [*layers, *(f"untrained, {layer}" for layer in layers)]
    assert is_png(tmp_path / "out" / "profile.png")


@pytest.mark.usefixtures("no_pictures")
def test_a_recipe_another_cache_and_a_reference(tmp_path, model_folder, files, own_cache):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"encoder: {model_folder}\nn_epochs: 1\nhead: {{kind: linear}}\nrefer_to_encoder: true\n")
    arguments = ["--config", recipe, *files, "--out", tmp_path / "out", "--cache", tmp_path / "other"]
    assert run("finetune", "classify", *arguments, "--pretokenized", "--untrained") == 0
    assert len(names(tmp_path / "other")) == 3
    assert not own_cache.exists()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["is_untrained"]
    assert run("finetune", "classify", *arguments, "--overwrite") == 0
    assert not (tmp_path / "out" / "model" / "encoder").exists()
    checkpoint = TaskCheckpoint.from_pretrained(tmp_path / "out", encoder=model_folder)
    assert checkpoint.description.head.kind == "linear"


@pytest.mark.usefixtures("no_pictures")
def test_splits_of_a_dataset(tmp_path, model_folder, dataset_cache):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train", "validation"):
        rows = write_classes(tmp_path / "rows.txt").read_text().splitlines()
        columns = (dict(zip(("label", "text"), row.split(maxsplit=1), strict=True)) for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in columns))
    arguments = ["--encoder", model_folder, "--dataset", folder, "--out", tmp_path / "out", *QUICK]
    assert run("finetune", "classify", *arguments, "--n-epochs", 1, "--head.kind", "linear") == 0


@pytest.mark.usefixtures("no_pictures")
def test_standard_input(tmp_path, model_folder, monkeypatch, capsys):
    setup = setup_of(model_folder, "tag", train=write_tagged(tmp_path / "a.conll"))
    folder = train(setup, tmp_path / "run", n_epochs=1).folder
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ban kin\nlun\n")))
    assert run("predict", folder, "--input", "-") == 0
    assert [json.loads(line)["tokens"] for line in capsys.readouterr().out.splitlines()] == [["ban", "kin"], ["lun"]]


BAD = {
    "a probe of one's own head": (
        ["finetune", "tag", "--encoder=m", "--train=a", "--out=o", "--probe", "--own-head=h.py:H"],
        "--probe has linear heads of its own",
    ),
    "output is input": (["predict", "m", "--input=good.txt", "--output=good.txt"], "is the input, which would be"),
    "no task": (["finetune", "--train", "good.txt"], "name the task first"),
    "unknown task": (["finetune", "clasify"], "unknown task 'clasify'; did you mean 'classify'"),
    "no training examples": (["finetune", "tag", "--encoder", "m", "--out", "o"], "--train is missing"),
    "two comparisons": (
        ["finetune", "tag", "--encoder=m", "--train=a", "--dev=b", "--out=o", "--baselines", "--probe"],
        "--baselines and --probe exclude each other",
    ),
    "no such file": (
        ["finetune", "tag", "--encoder=m", "--train=nowhere", "--dev=good.txt", "--out=o"],
        "nowhere: cannot be read: No such file",
    ),
    "no model": (
        ["finetune", "classify", "--encoder=nowhere", "--train=good.txt", "--dev=good.txt", "--out=o"],
        "nowhere: no such model folder",
    ),
    "empty split": (
        ["finetune", "classify", "--encoder=mini-en", "--train=good.txt", "--dev=empty.txt", "--out=o"],
        "empty.txt: the file is empty",
    ),
    "broken line": (
        ["finetune", "classify", "--encoder=mini-en", "--train=good.txt", "--dev=broken.txt", "--out=o"],
        "broken.txt, line 2: no sentence",
    ),
    "no such layer": (
        ["finetune", "classify", "--encoder=mini-en", "--train=good.txt", "--dev=good.txt", "--out=o",
         "--input.layers=tpo"],
        "layers: unknown 'tpo'; did you mean 'top'",
    ),
    "no such vectors": (
        ["finetune", "classify", "--encoder=mini-en", "--train=good.txt", "--dev=good.txt", "--out=o",
         "--input.static=glove.txt"],
        "glove.txt",
    ),
    "nothing to predict": (["predict", "nowhere"], "--input is missing"),
    "no task folder": (["predict", "nowhere", "--input", "good.txt"], "nowhere: no such task folder"),
    "no task to test": (["test", "nowhere", "good.txt"], "nowhere: no such task folder"),
    "unknown option": (["test", "nowhere", "good.txt", "--jsn"], "unknown argument --jsn; did you mean 'json'"),
    "no file to test": (["test", "nowhere"], "elmolite: "),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message_and_nothing_is_written(tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text("yes some words\nno others\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "broken.txt").write_text("yes some words\nno\n")
    before = names(tmp_path)
    arguments, message = BAD[case]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("elmolite: ")
    assert "Traceback" not in said.err + said.out
    assert names(tmp_path) == before


def test_an_earlier_run_stays_and_nothing_is_trained(tmp_path, model_folder, files, own_cache, capsys):
    out = tmp_path / "out"
    (out / "model").mkdir(parents=True)
    arguments = ["--encoder", model_folder, *files, "--out", out]
    assert run("finetune", "classify", *arguments) == 2
    assert f"{out / 'model'} exists already: choose another folder, or say --overwrite" in capsys.readouterr().err
    (out / "comparison.json").write_text("{}")
    assert run("finetune", "classify", *arguments, "--seeds", 2) == 2
    assert "holds a comparison already" in capsys.readouterr().err
    assert not own_cache.exists()
    assert names(out) == ["comparison.json", "model"]


@pytest.mark.usefixtures("no_pictures")
def test_a_failed_prediction_leaves_no_file(tmp_path, model_folder, capsys):
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    folder = train(setup, tmp_path / "run", n_epochs=1).folder
    (tmp_path / "new.jsonl").write_text('{"text": "ban"}\n{"txt": "kin"}\n')
    before = names(tmp_path)
    assert run("predict", folder, "--input", tmp_path / "new.jsonl", "--output", tmp_path / "out.jsonl") == 2
    assert "new.jsonl, line 2" in capsys.readouterr().err
    assert names(tmp_path) == before


def test_pictures_of_an_earlier_run_do_not_stay(tmp_path, model_folder):
    path = write_classes(tmp_path / "a.txt")
    train(setup_of(model_folder, "classify", train=path), tmp_path / "run", n_epochs=1)
    assert (tmp_path / "run" / "layers.png").is_file()
    train(setup_of(model_folder, "classify", train=path, layers="top"), tmp_path / "run", n_epochs=1, overwrite=True)
    assert not (tmp_path / "run" / "layers.png").exists()
    assert (tmp_path / "run" / "training.png").is_file()
