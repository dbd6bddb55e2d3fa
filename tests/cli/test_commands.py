import io
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from helpers.data import random_sentences, write_sentences
from helpers.models import small_config
from helpers.small_tasks import setup_of, span_tags, train, write_classes, write_label_sets, write_pairs, write_tagged

from elmolite import load_recipe
from elmolite.cli.commands import PARSERS
from elmolite.cli.main import main
from elmolite.errors import InputError
from elmolite.nn.config import mini, small
from elmolite.pretraining.config import PretrainingConfig
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.config import HEAD_CONFIGS, ClassifyConfig, ExampleColumns, FinetuningConfig, InputConfig
from elmolite.tasks.examples.sources import DatasetExamples
from elmolite.tasks.specs import TASKS

RECIPES = Path(__file__).parents[2] / "recipes"
PRETRAIN = ["--corpus", "c", "--out", "o"]
FINETUNE = ["--encoder", "m", "--train", "a", "--dev", "b", "--out", "o"]
QUICK = ["--n-epochs=1", "--batch-size=8", "--learning-rate=0.03", "--head.dropout=0", "--input.normalization=layer"]

pytestmark = pytest.mark.usefixtures("own_cache")


def run(*arguments):
    return main([str(argument) for argument in arguments])


def parsed(command, words):
    return PARSERS[command](words).arguments


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def files(tmp_path):
    """Training, validation and test examples, as arguments."""
    paths = {name: write_classes(tmp_path / f"{name}.txt", seed=i) for i, name in enumerate(("train", "dev", "test"))}
    return [part for name, path in paths.items() for part in (f"--{name}", path)]


# Options that depend on others


def test_defaults_of_pretrain():
    found = parsed("pretrain", PRETRAIN)
    assert (found["corpus"], found["out"], found["resume"]) == (Path("c"), Path("o"), False)
    assert (found["config"], found["model"]) == (PretrainingConfig(), mini())


def test_preset_then_file_then_command_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("preset: small\nlearning_rate: 0.003\npatience: 3\nmodel:\n  dropout: 0.2\n  n_layers: 3\n")
    found = parsed("pretrain", ["--config", str(path), *PRETRAIN, "--learning-rate=0.5", "--model.n_layers", "1"])
    assert (found["config"].patience, found["config"].learning_rate) == (3, 0.5)
    assert asdict(found["model"]) == {**asdict(small()), "dropout": 0.2, "n_layers": 1}
    assert parsed("pretrain", [*PRETRAIN, "--preset", "mini", "--config", str(path)])["model"].cell_size == 512


def test_sizes_of_the_model_to_start_from(model_folder):
    found = parsed("pretrain", [*PRETRAIN, "--init-from", str(model_folder), "--model.dropout", "0.4"])
    assert (found["init_from"], found["model"]) == (model_folder, small_config(dropout=0.4))


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("pretrain/*.yaml")), ids=lambda path: path.stem)
def test_pretraining_recipes(recipe):
    found = parsed("pretrain", ["--config", str(recipe), *PRETRAIN])
    assert load_recipe(recipe) == (found["model"], found["config"])


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("finetune/*.yaml")), ids=lambda path: path.stem)
def test_finetuning_recipes(recipe):
    task = next(task for task in TASKS if f"finetune {task}" in recipe.read_text())
    found = parsed("finetune", [task, "--config", str(recipe), "--train", "a", "--out", "o"])
    settings = {**found, **vars(found["config"])}
    for key, value in yaml.safe_load(recipe.read_text()).items():
        given = {name: vars(settings[key])[name] for name in value} if isinstance(value, dict) else settings[key]
        assert given == value


@pytest.mark.parametrize("key", ["corpus: c", "init_from: m"])
def test_a_recipe_for_python_holds_settings_only(tmp_path, key):
    (tmp_path / "recipe.yaml").write_text(f"preset: tiny\n{key}\n")
    with pytest.raises(InputError, match="give it to pretrain"):
        load_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("task", TASKS)
def test_defaults_of_finetune(task):
    found = parsed("finetune", [task, *FINETUNE])
    assert (found["task"], found["encoder"], found["train"], found["out"]) == (task, "m", "a", Path("o"))
    assert (found["config"], found["input"], found["columns"]) == (FinetuningConfig(), InputConfig(), ExampleColumns())
    assert found["head"] == HEAD_CONFIGS[task]()


def test_a_finetuning_file(tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        "encoder: mini-en\nn_epochs: 7\nseeds: 3\nprobe: true\nhead: {kind: cnn, hidden_size: 30}\n"
        "input: {layers: 1, static: v.txt}\ncolumns: {label: '#'}\n"
    )
    words = ["classify", "--out", "o", "--n-epochs=9", "--head.hidden-size", "5"]
    found = parsed("finetune", [*words, "--config", str(tmp_path / "recipe.yaml")])
    assert (found["encoder"], found["seeds"], found["probe"]) == ("mini-en", 3, True)
    assert found["config"] == FinetuningConfig(n_epochs=9)
    assert found["head"] == ClassifyConfig(kind="cnn", hidden_size=5)
    assert (found["input"], found["columns"]) == (InputConfig(layers=1, static="v.txt"), ExampleColumns(label="#"))


@pytest.mark.parametrize("task", TASKS)
def test_help_of_a_task(task, capsys):
    with pytest.raises(SystemExit):
        run("finetune", task, "--help")
    assert ("--head.pooling" in capsys.readouterr().out) == (task == "classify")
    with pytest.raises(SystemExit):
        run("finetune", "--help")
    assert f"\n  {task} " in capsys.readouterr().out


def test_flags_of_version_0_1(tmp_path, caplog, capsys):
    (tmp_path / "recipe.yaml").write_text("n_rows: 8\nclip_norm: 2\n")
    words = ["--config", str(tmp_path / "recipe.yaml"), "--window=5", "--n-accumulated", "2", "--plan"]
    with caplog.at_level("WARNING", "elmolite"):
        found = parsed("pretrain", [*PRETRAIN, *words])
    assert found["config"] == PretrainingConfig(batch_size=8, bptt_length=5, accumulate_steps=2, max_grad_norm=2.0)
    assert found["dry_run"]
    assert {record.message.partition(" and ")[0] for record in caplog.records} == {
        f"{name} is deprecated" for name in ("--window", "--n-accumulated", "--plan", "n_rows", "clip_norm")
    }
    words = ["--own-head=h.py:H", "--clip-norm=2", "--cache-precision=float16", "--input.mixes-at-output=true"]
    found = parsed("finetune", ["tag", *FINETUNE, *words])
    assert (found["custom_head"], found["input"]) == ("h.py:H", InputConfig(output_mix=True))
    assert found["config"] == FinetuningConfig(max_grad_norm=2.0, cache_dtype="float16")
    with pytest.raises(SystemExit):
        run("pretrain", "--help")
    assert "--window" not in capsys.readouterr().out


# Mistakes

BAD = {
    "no text": (["prepare", "--out", "c"], "no text given; expected files"),
    "text twice": (["prepare", "good.txt", "--dataset", "d", "--out", "c"], "TEXT (good.txt) and --dataset exclude"),
    "streaming of files": (["prepare", "good.txt", "--streaming", "--out", "c"], "--streaming requires --dataset"),
    "corpus exists": (["prepare", "good.txt", "--out", "."], "elmolite: . exists already: choose another folder, or"),
    **{
        f"{words[0]} into a file": (words, "good.txt is a file: choose another name for the folder")
        for words in (
            ["prepare", "good.txt", "--out=good.txt", "--overwrite"],
            ["finetune", "tag", "--encoder=mini-en", "--train=good.txt", "--out=good.txt"],
            ["demo", "--out=good.txt"],
            ["embed", "mini-en", "--input=good.txt", "--output=good.txt/vectors.npz"],
        )
    },
    "a folder for a file": (["embed", "mini-en", "--input=good.txt", "--output=v.npz"], "v.npz is a folder: choose an"),
    "corpus not given": (["pretrain", "--out", "r"], "--corpus is required"),
    "no run": (["pretrain", "--out", "r", "--resume"], "r: nothing to resume"),
    "an empty value": (["embed", "mini-en", "--input", "", "--output", "v.npz"], "--input must not be empty"),
    "text as a model": (["info", "good.txt"], "good.txt: not a model, or its weights are missing from its folder"),
    "vectors among other files": (["embed", "mini-en", "--input=good.txt", "--output=."], "has no vectors to resume"),
    "unknown name": (["info", "trecc"], "trecc: no such folder or name; did you mean 'trec'?"),
    "unknown recipe": (["pretrain", "--config", "minni"], "minni: no such file or recipe; did you mean 'mini'"),
    "unknown shell": (["completion", "tcsh"], "SHELL must be bash, zsh or fish, got 'tcsh'"),
    "unknown cell": (
        ["pretrain", *PRETRAIN, "--model.cell", "lst"],
        "--model.cell must be lstm, gru or rnn, got 'lst'",
    ),
    "a range": (["pretrain", *PRETRAIN, "--batch-size", "0"], "--batch-size must be positive, got 0"),
    "task in place of a model": (["evaluate", "mini-en-upos", "good.txt"], "a fine-tuned task, not a language model"),
    "no such device": (["info", "--runtime", "--device", "cuda:99"], "device cuda:99 is not available: torch finds "),
    "no device": (["info", "--device", "gpu"], "--device must be auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
    "unknown preset": (["pretrain", *PRETRAIN, "--preset", "minni"], "unknown preset 'minni'; did you mean 'mini'"),
    "preset of a model": (["pretrain", *PRETRAIN, "--preset=mini", "--init-from=m"], "exclude each other"),
    "no model": (["embed", "nowhere", "--input", "good.txt", "--output", "v.npz"], "nowhere: no such model folder"),
    "no task": (["finetune", "--train", "good.txt"], "the task must come first: classify"),
    "unknown task": (["finetune", "clasify"], "unknown task 'clasify'; did you mean 'classify'"),
    "no training examples": (["finetune", "tag", "--encoder", "m", "--out", "o"], "--train is required"),
    "two caches": (["finetune", "tag", *FINETUNE, "--cache=c", "--no-cache"], "--cache and --no-cache exclude"),
    "two comparisons": (["finetune", "tag", *FINETUNE, "--baselines", "--probe"], "--probe and --baselines exclude"),
    "a trained probe": (["finetune", "tag", *FINETUNE, "--probe", "--encoder-training=all"], "encoder-training frozen"),
    "output is input": (["predict", "m", "--input=good.txt", "--output=good.txt"], "must not be the input"),
    "a checkpoint": (["predict", "--checkpoint", "m", "--input=good.txt"], "MODEL is an argument"),
    "vectors to standard output": (
        ["embed", "mini-en", "--input=good.txt", "--output=-"],
        "--output must be a file or",
    ),
    "no task folder": (["predict", "nowhere", "--input", "good.txt"], "nowhere: no such task folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message_and_nothing_is_written(tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text("yes some words\nno others\n")
    (tmp_path / "v.npz").mkdir()
    before = names(tmp_path)
    arguments, message = BAD[case]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err.splitlines()[-1]
    assert said.err.splitlines()[-1].startswith("elmolite: ")
    assert "Traceback" not in said.err + said.out
    assert names(tmp_path) == before


# Whole ways


@pytest.fixture
def output_of(capsys):
    """Run a command that succeeds, and return what it prints."""

    def output(*arguments):
        capsys.readouterr()
        assert run(*arguments) == 0
        return capsys.readouterr().out

    return output


@pytest.mark.slow
def test_from_text_to_perplexity(tmp_path, output_of, capsys):
    """Results, and nothing else, are written to standard output; with --json as one object."""
    text = write_sentences(tmp_path / "text.txt", random_sentences(300))
    corpus, out = tmp_path / "corpus", tmp_path / "run"
    prepare = ["prepare", text, "--out", corpus, "--pretokenized", "--vocab-size", "25", "--workers", "1"]
    assert json.loads(output_of(*prepare, "--json"))["vocabulary_size"] == 25
    assert "25 words of the softmax" in output_of(*prepare, "--overwrite")
    sizes = ["--model.cell-size", 16, "--model.projection-size", 8, "--model.filters", "[[1, 8], [2, 8]]"]
    pretrain = ["pretrain", "--corpus", corpus, "--out", out, "--max-steps", 4, *sizes, "--device", "cpu"]
    assert json.loads(output_of(*pretrain, "--dry-run", "--json"))["n_steps"] == 4
    found = json.loads(output_of(*pretrain, "--json"))
    assert (found["model"], found["n_steps"]) == (str(out / "model"), 4)
    assert found["validation_perplexity"].keys() == {"forward", "backward"}
    capsys.readouterr()
    assert run("pretrain", "--out", out, "--resume") == 0  # with the settings of the run
    said = capsys.readouterr()
    assert said.out == f"model: {out / 'model'}\n"
    assert "the run has finished, after step 4; to train its model further, start a new run from it: elmo" in said.err
    assert f"next: elmolite embed {out / 'model'} --input FILE" in said.err
    result = json.loads(output_of("evaluate", out / "model", text, "--json"))
    n_targets = sum(len(s) + 1 for s in random_sentences(300))
    assert result["running_text"]["n_targets"] == result["by_sentence"]["n_targets"] == n_targets
    assert "sentence by sentence" in output_of("evaluate", out / "model", text)
    assert "vectors    3 layers of 16" in output_of("info", out / "model")
    embed = ["embed", out / "model", "--input", text, "--output", tmp_path / "vectors", "--json", "--quiet"]
    assert json.loads(output_of(*embed))["n_sentences"] == len(text.read_text().splitlines())
    query = ["neighbours", out / "model", text, "--query", "the [ban]", "-n", 2, "--json"]
    assert len(json.loads(output_of(*query))[0]["neighbours"]) == 2
    convert = ["convert", out / "model", tmp_path / "hdf5", "--json"]
    assert json.loads(output_of(*convert))["output"] == str(tmp_path / "hdf5")

    # A folder of another kind than the command takes
    for words, message in (
        (["evaluate", out, text], f"the folder of a run, not a language model: its model is {out / 'model'}"),
        (["embed", corpus, "--input", text, "--output", "v.npz"], "a corpus, not a language model: train a language"),
        (["predict", out, "--input", text], "a language model, not a fine-tuned task: train a task on it"),
        (["test", tmp_path / "vectors", text], "vectors, not a fine-tuned task: read them with EmbeddingFolder"),
        (["pretrain", "--corpus", out, "--out", "r"], "not a corpus: make one with elmolite prepare"),
        (["pretrain", "--corpus", corpus, "--out", out], "already contains a run: continue it with --resume"),
        (["pretrain", "--corpus", corpus, "--out", text], "text.txt is a file: choose another name for the folder"),
    ):
        assert run(*words) == 2
        assert message in capsys.readouterr().err


def test_info(output_of):
    said = output_of("info")
    assert all(part in said for part in ("93,600,864", "mini-en", "ewt-upos"))
    said = output_of("info", "mini", "--runtime")
    assert all(part in said for part in ("2,996,448", " thread", "products   without gradients: float32 "))
    assert json.loads(output_of("info", "mini", "--json"))["n_parameters"] == 2_996_448
    assert f"recipe     {RECIPES / 'pretrain' / 'mini.yaml'}\n" in output_of("info", "mini")
    recipe = RECIPES / "finetune" / "trec.yaml"
    assert output_of("info", "trec") == f"# {recipe}\n{recipe.read_text()}"
    assert json.loads(output_of("info", "trec", "--json"))["settings"]["patience"] == "6"
    said = output_of("info", "mini-en-upos")
    assert all(
        part in said for part in ("tag, 17 labels: ADJ, ADP,", "hidden_size 100", "encoder    mini-en\n", "590kB")
    )


def test_recipes_by_name():
    assert load_recipe("mini") == load_recipe(RECIPES / "pretrain" / "mini.yaml")
    found = parsed("finetune", ["tag", "--config", "ewt-upos", "--train", "a", "--out", "o"])
    assert (found["encoder"], found["config"].patience) == ("mini-en", 4)


def test_info_of_a_corpus(tmp_path, corpus, output_of, capsys, monkeypatch):
    assert output_of("info", corpus.folder) == f"{corpus.describe()}\n"
    folder = tmp_path / "corpus"
    shutil.copytree(corpus.folder, folder)
    monkeypatch.setattr("elmolite.utils.console.BAR_DELAY_SECONDS", -1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for quiet in ([], ["--quiet"]):
        assert run("info", folder, "--verify", *quiet) == 0
        said = capsys.readouterr()
        assert "verified" in said.out
        assert ("verifying" in said.err) == (not quiet)
    path = next(folder.glob("*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for described, message in ((folder, path.name), ("mini", "--verify requires a corpus folder, got mini")):
        assert run("info", described, "--verify") == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_from_examples_to_predictions(tmp_path, model_folder, files, output_of):
    out = tmp_path / "run"
    arguments = ["--encoder", model_folder, *files, "--out", out, *QUICK, "--n-epochs", 8]
    said = output_of("finetune", "classify", *arguments)
    assert said.endswith(f"model: {out / 'model'}\n")
    assert names(out) == ["confusion.png", "layers.png", "log.csv", "metrics.json", "model", "training.png"]
    assert all(is_png(path) for path in out.glob("*.png"))
    test_value = json.loads((out / "metrics.json").read_text())["test"]["value"]
    assert output_of("test", out, tmp_path / "test.txt").count(f"accuracy {test_value:.4f}") == 1
    assert f"test accuracy {test_value:.4f}, of epoch " in (described := output_of("info", out))
    assert output_of("info", out / "model") == described
    assert json.loads(output_of("test", out / "model", tmp_path / "test.txt", "--json"))["value"] == test_value

    (tmp_path / "new.txt").write_text("ban bast\nkin\nnaïve\n", encoding="utf-8")
    lines = output_of("predict", out, "--input", tmp_path / "new.txt", "--output", "-").splitlines()
    found = [json.loads(line) for line in lines]
    assert json.loads(output_of("predict", out, "--input", tmp_path / "new.txt", "--json")) == {"predictions": found}
    assert [record["text"] for record in found] == ["ban bast", "kin", "naïve"]
    assert "naïve" in lines[2]
    assert [record["label"] for record in found[:2]] == ["left", "right"]
    said = output_of("predict", out, "--input", tmp_path / "new.txt", "--output", tmp_path / "new.jsonl")
    assert (tmp_path / "new.jsonl").read_text(encoding="utf-8").splitlines() == lines
    assert said == f"{tmp_path / 'new.jsonl'}: 3 predictions\n"
    predict = ["predict", out, "--input", tmp_path / "new.txt", "--output", tmp_path / "new.jsonl", "--json"]
    assert json.loads(output_of(*predict))["n_predictions"] == 3


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_spans_and_pairs_and_label_sets(tmp_path, model_folder, output_of):
    paths = {
        "tag": write_tagged(tmp_path / "a.conll", span_tags),
        "entail": write_pairs(tmp_path / "a.tsv"),
        "classify": write_label_sets(tmp_path / "b.tsv"),
    }
    for task, path in paths.items():
        columns = ["--columns.label-separator", "|"] if task == "classify" else []
        arguments = ["--encoder", model_folder, "--train", path, "--dev", path, "--out", tmp_path / task, *columns]
        assert run("finetune", task, *arguments, *QUICK, "--head.hidden-size", 4) == 0
        said = output_of("test", tmp_path / task, path, *columns)
        assert "accuracy" in said if task == "entail" else said.splitlines()[-1].startswith("F1")
        said = output_of("predict", tmp_path / task, "--input", path, *columns)
        assert all("gold" in json.loads(line) for line in said.splitlines()[:3])


@pytest.mark.slow
def test_plots_are_of_what_there_is(tmp_path, model_folder):
    """No mix is learnt from one layer, and sets of labels have no confusion matrix; earlier plots are removed."""
    path, out = write_label_sets(tmp_path / "a.tsv"), tmp_path / "run"
    train(setup_of(model_folder, "classify", train=write_classes(tmp_path / "b.txt")), out, n_epochs=1)
    assert (out / "layers.png").is_file()
    files = ["--train", path, "--dev", path, "--columns.label-separator", "|", "--overwrite"]
    options = [*QUICK, "--input.layers", "top", "--head.kind", "linear"]
    assert run("finetune", "classify", "--encoder", model_folder, *files, "--out", out, *options) == 0
    assert names(out) == ["log.csv", "metrics.json", "model", "training.png"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (["--seeds", 2, "--seed", 3, "--head.kind", "linear"], ["classify"]),
        (["--baselines", "--head.kind", "linear"], ["mix", "average", "top", "token", "untrained, mix"]),
        (["--probe"], [f"{of}{each}" for of in ("", "untrained, ")
                       for each in ("token layer", "LSTM layer 1", "LSTM layer 2", "mix")]),
    ],
)  # fmt: skip
def test_comparisons(tmp_path, model_folder, files, output_of, capsys, options, rows):
    out = tmp_path / "out"
    said = output_of("finetune", "classify", "--encoder", model_folder, *files, "--out", out, *QUICK, *options)
    assert [row.split("  ")[0] for row in said.splitlines()[1 : len(rows) + 1]] == rows
    if "--seeds" in options:
        assert "mean ± standard deviation of 2 seeds" in said
        assert names(out) == ["classify-3", "classify-4", "comparison.json"]
        assert run("info", out) == 2
        assert "out: a comparison of runs, not a language model: choose one of the runs" in capsys.readouterr().err
        predict = ["predict", out / "classify-4", "--input", tmp_path / "test.txt"]
        assert run(*predict) == 2  # the language model is not in it
        assert run(*predict, "--encoder", model_folder) == 0
    if "--probe" in options:
        assert is_png(out / "profile.png")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_recipe_another_cache_and_a_reference(tmp_path, model_folder, files, own_cache, output_of):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"encoder: {model_folder}\nn_epochs: 1\nhead: {{kind: linear}}\nrefer_to_encoder: true\n")
    arguments = ["--config", recipe, *files, "--out", tmp_path / "out", "--cache", tmp_path / "other"]
    assert run("finetune", "classify", *arguments, "--pretokenized", "--untrained") == 0
    assert len(names(tmp_path / "other")) == 3
    assert not own_cache.exists()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["is_untrained"]
    assert json.loads(output_of("finetune", "classify", *arguments, "--overwrite", "--json"))["best_epoch"] == 1
    assert not (tmp_path / "out" / "model" / "encoder").exists()
    checkpoint = TaskCheckpoint.from_pretrained(tmp_path / "out", encoder=model_folder)
    assert checkpoint.description.head.kind == "linear"


def test_names_of_splits(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "elmolite.tasks.examples.sources.TaskExamples.read", lambda task, **sources: seen.append(sources) or 1 / 0
    )
    words = ["--encoder=mini-en", "--out=o", "--dataset=d", "--dataset-config=c"]
    for more, expected in (([], ("train", "validation", None)), (["--dev=x", "--test=y"], ("train", "x", "y"))):
        with pytest.raises(ZeroDivisionError):
            run("finetune", "tag", *words, *more)
        splits = [None if name is None else DatasetExamples("d", "c", name) for name in expected]
        assert [seen[-1][name] for name in ("train", "dev", "test")] == splits


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_standard_input_and_a_failed_prediction(tmp_path, model_folder, monkeypatch, output_of, capsys):
    setup = setup_of(model_folder, "tag", train=write_tagged(tmp_path / "a.conll"))
    folder = train(setup, tmp_path / "run", n_epochs=1).folder
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ban kin\nlun\n")))
    lines = output_of("predict", folder, "--input", "-").splitlines()
    assert [json.loads(line)["tokens"] for line in lines] == [["ban", "kin"], ["lun"]]
    (tmp_path / "new.jsonl").write_text('{"tokens": ["ban"]}\n{"tokns": ["kin"]}\n')
    before = names(tmp_path)
    assert run("predict", folder, "--input", tmp_path / "new.jsonl", "--output", tmp_path / "out.jsonl") == 2
    assert "new.jsonl, line 2" in capsys.readouterr().err
    assert names(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="the shell's <(command) needs /dev/fd")
def test_a_pipe_is_a_file(tmp_path, model_folder):
    reader, writer = os.pipe()
    os.write(writer, b"A line.\n")
    os.close(writer)
    output = tmp_path / "vectors.npz"
    assert main(["embed", str(model_folder), "--input", f"/dev/fd/{reader}", "--output", str(output)]) == 0
    os.close(reader)
    assert output.exists()
