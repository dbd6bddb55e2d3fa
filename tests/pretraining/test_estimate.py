import re
import runpy
from pathlib import Path

import pytest
from helpers.models import small_config
from helpers.pretraining import validations

from elmolite.cli.main import main
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.estimate import estimate
from elmolite.pretraining.trainer import pretrain

DISTRIBUTED = Path(__file__).parents[2] / "recipes" / "distributed"


@pytest.mark.parametrize("n_devices", [1, 2])
def test_an_estimate_counts_and_measures_and_writes_nothing(tmp_path, monkeypatch, corpus, n_devices):
    monkeypatch.chdir(tmp_path)
    config = PretrainingConfig(batch_size=4, bptt_length=10, n_epochs=1000, n_validations=5, n_devices=n_devices)
    result = estimate(config, model=small_config(), corpus=corpus.folder)
    n_steps = result.run.n_steps
    assert n_steps == pytest.approx(1000 * (corpus.train.n_tokens + corpus.train.n_sentences) / 40, rel=0.1)
    assert result.n_validations in (6, 7)
    assert result.step_seconds > 0
    assert list(tmp_path.iterdir()) == []
    text = result.describe()
    assert float(re.search(r"per epoch, ([\d.]+) epochs", text)[1]) == pytest.approx(1000, rel=0.05)
    assert f"{n_steps:,}, and {result.n_validations} validations" in text
    assert f"and {len(corpus.vocabulary) * 13:,} of the softmax" in text
    assert ("of one process of 2," in text) == ("MB per step sent by each process" in text) == (n_devices == 2)


@pytest.mark.parametrize(("n_steps", "n_validations"), [(13, 3), (5, 9)])
def test_the_estimate_counts_the_validations_that_the_run_makes(tmp_path, corpus, n_steps, n_validations):
    config = PretrainingConfig(batch_size=4, bptt_length=10, max_steps=n_steps, n_validations=n_validations)
    found = estimate(config, model=small_config(), corpus=corpus.folder)
    pretrain(config, model=small_config(), corpus=corpus.folder, out=tmp_path / "run", show_progress=False)
    assert found.n_validations == len(validations(tmp_path / "run"))


def test_the_command_needs_no_folder_to_write(corpus, capsys):
    arguments = ["pretrain", "--corpus", str(corpus.folder), "--preset", "tiny", "--batch-size", "4", "--dry-run"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "ms per step" in printed
    assert "0.8 M parameters" in printed


@pytest.mark.parametrize("table", ["table_of_bytes", "table_of_gpus"])
def test_the_tables_of_the_recipe(table):
    computed = runpy.run_path(str(DISTRIBUTED / "communication.py"))[table]()
    assert computed in (DISTRIBUTED / "README.md").read_text(encoding="utf-8")
