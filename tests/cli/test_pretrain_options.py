from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import small_config

from elmolite.cli.pretrain_options import load_recipe, parse
from elmolite.errors import InputError
from elmolite.nn.bilm import mini, small
from elmolite.pretraining.config import PretrainingConfig

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "pretrain").glob("*.yaml"))
REQUIRED = ["--corpus", "c", "--out", "o"]


def test_defaults_are_those_of_the_dataclasses():
    options = parse(REQUIRED)
    assert (options.corpus, options.out, options.resume) == (Path("c"), Path("o"), False)
    assert options.config == PretrainingConfig()
    assert options.model == mini()


def test_preset_then_file_then_command_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("preset: small\nwindow: 30\nlearning_rate: 0.003\nmodel:\n  dropout: 0.2\n  n_layers: 3\n")
    options = parse(["--config", str(path), *REQUIRED, "--learning-rate=0.5", "--model.n_layers", "1", "--resume"])
    assert options.config.window == 30
    assert options.config.learning_rate == 0.5
    assert options.resume
    assert asdict(options.model) == {**asdict(small()), "dropout": 0.2, "n_layers": 1}


def test_options_override_the_file_wherever_they_stand(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("window: 30\nlearning_rate: 0.003\n")
    for config in (["--config", str(path)], [f"--config={path}"]):
        options = parse(["--window", "9", *config, *REQUIRED])
        assert (options.config.window, options.config.learning_rate) == (9, 0.003)


def test_preset_on_the_command_line_wins_over_that_of_the_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("preset: small\n")
    assert parse(["--config", str(path), *REQUIRED, "--preset", "mini"]).model == mini()


def test_nothing_and_lists():
    options = parse([*REQUIRED, "--model.cell-clip", "null", "--model.filters", "[[1, 4], [2, 8]]", "--max-steps", "5"])
    assert options.model.cell_clip is None
    assert options.model.filters == [(1, 4), (2, 8)]
    assert options.config.max_steps == 5


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("learning_rat: 1", r"recipe\.yaml: unknown key 'learning_rat'; did you mean 'learning_rate'"),
        ("model:\n  cells_size: 1", r"unknown key 'model.cells_size'; did you mean 'model.cell_size'"),
        ("window: many", r"window"),
        ("optimizer: adamw", r"optimizer"),
        ("model: 3", r"model"),
        ("preset: large", r"unknown preset 'large'"),
        ("- 1", r"expected 'key: value' lines"),
        ("a: [", r"recipe\.yaml: not YAML"),
        ("window: 0", r"window: 0 is not greater than 0"),
        ("model:\n  dropout:", r"model\.dropout: a value is missing"),
        ("window:", r"window"),
        (f"learning_rate: {10**400}", r"a number of an option is too large for floating point"),
        ("window: &a 1\nn_rows: *a", r"recipe\.yaml: not YAML that can be read: aliases are not read"),
    ],
)
def test_mistakes_in_a_file_are_explained(tmp_path, yaml, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml)
    with pytest.raises(InputError, match=message):
        parse(["--config", str(path), *REQUIRED])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*REQUIRED, "--learning-rat", "1"], r"unknown argument --learning-rat; did you mean 'learning-rate'"),
        ([*REQUIRED, "--window", "x"], "window"),
        ([*REQUIRED, "--preset", "minni"], r"unknown preset 'minni'; did you mean 'mini'"),
        ([*REQUIRED, "stray"], "stray"),
        (["--out", "o"], "--corpus is missing"),
        (["--corpus", "c"], "--out is missing"),
        ([*REQUIRED, "--config", "nowhere.yaml"], r"nowhere\.yaml: cannot be read"),
        ([*REQUIRED, "--resum"], r"did you mean 'resume'"),
        ([*REQUIRED, "--config", "a", "--config", "b"], "--config is given twice"),
        ([*REQUIRED, "--seed", "-1"], "seed"),
        ([*REQUIRED, "--seed", str(10**20)], "seed"),
        ([*REQUIRED, "--model.filters", "[[60, 3]]"], "filters"),
        ([*REQUIRED, "--model.cell-clip", "0"], "cell_clip"),
        ([*REQUIRED, "--model.n-highway-layers", "-2"], "n_highway_layers"),
    ],
)
def test_mistakes_on_the_command_line_are_explained(arguments, message):
    with pytest.raises(InputError, match=message):
        parse(arguments)


def test_help_spells_options_with_hyphens(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    assert "--learning-rate" in text
    assert "--learning_rate" not in text
    assert "streams side by side" in text  # the fields' own documentation


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid(recipe):
    parse(["--config", str(recipe), *REQUIRED])


def test_there_are_recipes():
    assert {"tiny", "mini", "speeches"} <= {path.stem for path in RECIPES}


def test_a_plan_needs_no_folder():
    options = parse(["--corpus", "c", "--plan"])
    assert options.plan
    assert options.out is None


def test_a_recipe_for_python():
    for path in RECIPES:
        options = parse(["--config", str(path), *REQUIRED])
        assert load_recipe(path) == (options.model, options.config)


def test_the_sizes_of_a_model_to_start_from(model_folder):
    options = parse([*REQUIRED, "--init-from", str(model_folder), "--model.dropout", "0.4"])
    assert options.init_from == model_folder
    assert options.model == small_config(dropout=0.4)
    with pytest.raises(InputError, match="exclude each other"):
        parse([*REQUIRED, "--init-from", str(model_folder), "--preset", "tiny"])
    with pytest.raises(InputError, match="nowhere"):
        parse([*REQUIRED, "--init-from", "nowhere"])


@pytest.mark.parametrize("key", ["corpus: c", "init_from: m"])
def test_a_recipe_for_python_holds_settings_only(tmp_path, key):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"preset: tiny\n{key}\n")
    with pytest.raises(InputError, match="give it to pretrain"):
        load_recipe(path)
