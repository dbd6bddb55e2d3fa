from dataclasses import asdict
from pathlib import Path

import pytest

from elmolite.cli.finetune_options import parse
from elmolite.errors import InputError
from elmolite.tasks.config import FinetuningConfig, InputConfig
from elmolite.tasks.examples.columns import ExampleColumns
from elmolite.tasks.examples.hf_datasets import DatasetExamples
from elmolite.tasks.heads import ClassifyConfig, EntailConfig
from elmolite.tasks.specs import TASKS

REQUIRED = ["--encoder", "m", "--train", "a", "--dev", "b", "--out", "o"]


def write(folder, text):
    (folder / "recipe.yaml").write_text(text)
    return ["--config", str(folder / "recipe.yaml")]


@pytest.mark.parametrize("task", TASKS)
def test_defaults_are_those_of_the_dataclasses(task):
    options = parse([task, *REQUIRED])
    assert (options.task, options.encoder, options.train, options.dev, options.test) == (task, "m", "a", "b", None)
    assert (options.out, options.cache, options.n_seeds) == (Path("o"), None, 1)
    assert options.config == FinetuningConfig()
    assert options.inputs == InputConfig()
    assert options.head == TASKS[task].config()
    assert options.columns == ExampleColumns()
    switches = ("untrained", "baselines", "probe", "pretokenized", "refer_to_encoder", "overwrite")
    assert not any(getattr(options, name) for name in switches)


def test_the_command_line_goes_before_the_file(tmp_path):
    recipe = write(
        tmp_path,
        "encoder: mini-en\nn_epochs: 7\nlearning_rate: 0.01\nseeds: 3\nprobe: true\n"
        "head: {kind: cnn, hidden_size: 30}\ninput: {layers: top, static: v.txt}\ncolumns: {label: class}\n",
    )
    options = parse(
        ["classify", "--train", "a", "--dev", "b", "--out", "o", "--n-epochs=9", "--head.hidden-size", "5", *recipe]
    )
    assert options.encoder == "mini-en"
    assert asdict(options.config) == {**asdict(FinetuningConfig()), "n_epochs": 9, "learning_rate": 0.01}
    assert options.head == ClassifyConfig(kind="cnn", hidden_size=5)
    assert options.inputs == InputConfig(layers="top", static="v.txt")
    assert options.columns == ExampleColumns(label="class")
    assert options.n_seeds == 3
    assert options.probe


def test_layers_may_be_numbers():
    assert parse(["tag", *REQUIRED, "--input.layers", "1"]).inputs.layers == "1"


def test_splits_of_a_dataset_are_named_as_usual():
    options = parse(["entail", "--encoder", "m", "--out", "o", "--dataset", "snli", "--dataset-config", "plain"])
    assert options.train == DatasetExamples("snli", "plain", "train")
    assert options.dev == DatasetExamples("snli", "plain", "validation")
    assert options.test is None
    assert options.head == EntailConfig()
    arguments = ["--dataset", "d", "--dev", "dev", "--test", "test", "--encoder", "m", "--out", "o"]
    options = parse(["tag", *arguments])
    assert (options.dev, options.test) == (DatasetExamples("d", None, "dev"), DatasetExamples("d", None, "test"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the task first: classify, tag, entail"),
        (REQUIRED, "name the task first"),
        (["tags", *REQUIRED], "unknown task 'tags'; did you mean 'tag'"),
        (["tag", *REQUIRED, "--learning-rat", "1"], "unknown argument --learning-rat; did you mean 'learning-rate'"),
        (["tag", *REQUIRED, "--head.pooling", "max"], "unknown argument --head.pooling"),
        (["tag", *REQUIRED, "--head.hiden-size", "3"], "--head.hiden-size; did you mean 'head.hidden-size'"),
        (["classify", *REQUIRED, "--head.kind", "cnnn"], "head.kind"),
        (["classify", *REQUIRED, "--head.kind=linear", "--head.pooling=final"], "head.pooling: 'final' needs an LSTM"),
        (["tag", *REQUIRED, "--n-epochs", "0"], "n_epochs: 0 is not greater than 0"),
        (["tag", *REQUIRED, "--n-epochs", "many"], "n_epochs"),
        (["tag", *REQUIRED, "--input.dropout", "1"], r"input.dropout: 1.0 is not in \[0, 1\)"),
        (["tag", *REQUIRED, "--head.dropout", "-0.1"], "head.dropout"),
        (["tag", *REQUIRED, "--head.hidden-size", "0"], "head.hidden_size must be between 1 and 65,536, got 0"),
        (["tag", *REQUIRED, "--cache-limit", "-1"], "cache_limit: -1.0 is negative"),
        (["tag", *REQUIRED, "--seed", "-1"], "seed: -1 is not in"),
        (["tag", *REQUIRED, "--seeds", "0"], "--seeds 0: at least 1 is needed"),
        (["tag", *REQUIRED, "--baselines", "--probe"], "--baselines and --probe exclude each other"),
        (["tag", *REQUIRED, "--dataset-config", "c"], "--dataset-config: has a meaning only beside --dataset"),
        (["tag", *REQUIRED, "stray"], "stray"),
        (["tag", *REQUIRED, "--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_mistakes_on_the_command_line_are_explained(arguments, message):
    with pytest.raises(InputError, match=message):
        parse(arguments)


@pytest.mark.parametrize("name", ["encoder", "train", "out"])
def test_what_is_missing_is_named(name):
    at = REQUIRED.index(f"--{name}")
    with pytest.raises(InputError, match=f"--{name} is missing"):
        parse(["tag", *REQUIRED[:at], *REQUIRED[at + 2 :]])


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("n_epoch: 1", r"recipe\.yaml: unknown key 'n_epoch'; did you mean 'n_epochs'"),
        ("head:\n  hiden_size: 1", r"unknown key 'head.hiden_size'; did you mean 'head.hidden_size'"),
        ("input: {statics: a}", r"unknown key 'input.statics'; did you mean 'input.static'"),
        ("columns: {labels: a}", r"unknown key 'columns.labels'; did you mean 'columns.label'"),
        ("head: 3", "head"),
        ("n_epochs: many", "n_epochs"),
    ],
)
def test_mistakes_in_a_file_are_explained(tmp_path, yaml, message):
    with pytest.raises(InputError, match=message):
        parse(["tag", *write(tmp_path, yaml), *REQUIRED])


@pytest.mark.parametrize("task", TASKS)
def test_help_spells_options_with_hyphens(task, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse([task, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "--encoder-learning-rate" in text
    assert "--encoder_learning_rate" not in text
    assert "weight of the squared scores of the mixes" in " ".join(text.split())
    assert ("--head.pooling" in text) == (task == "classify")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_without_a_task_names_the_tasks(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(arguments)
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(f"\n  {task} " in text for task in TASKS)
