"""Folders of version 0.1 open, and give the vectors, labels and perplexities that ``expected.npz`` has of it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from elmolite import Corpus, ELMo, EmbeddingFolder, TaskCheckpoint
from elmolite.cli.main import main

FIXTURES = Path(__file__).parent / "fixtures" / "v0_1"
SENTENCES = (FIXTURES / "inputs" / "sentences.txt").read_text(encoding="utf-8").splitlines()
PERPLEXITIES = ("valid_forward", "valid_backward", "valid_average")


def elmolite(*arguments):
    """Run a command in this process; it must succeed."""
    assert main([str(argument) for argument in arguments]) == 0


def vectors_of(model):
    """Vectors of all layers of the sentences, side by side."""
    return np.concatenate(ELMo.from_pretrained(model).embed(SENTENCES), axis=1)


@pytest.fixture(scope="module")
def expected():
    with np.load(FIXTURES / "expected.npz") as arrays:
        return dict(arrays)


def test_a_corpus_can_be_trained_on(tmp_path):
    corpus = Corpus.open(FIXTURES / "corpus")
    assert len(corpus.vocabulary) == 200
    assert (corpus.train.n_sentences, corpus.train.n_tokens) == (395, 2258)
    assert (corpus.valid.n_sentences, corpus.valid.n_tokens) == (5, 23)
    for part in (corpus.train, corpus.valid):
        assert corpus.rows(np.asarray(part.tokens), "characters").shape == (len(part.tokens), 50)
    sizes = "--model.cell-size=8 --model.projection-size=4 --model.filters=[[1,4]]"
    settings = f"--max-steps=2 --n-validations=1 {sizes}".split()
    elmolite("pretrain", "--corpus", FIXTURES / "corpus", "--out", tmp_path / "run", *settings)


def test_a_model(expected):
    np.testing.assert_allclose(vectors_of(FIXTURES / "model"), expected["model"], rtol=0, atol=1e-5)


def test_a_model_has_its_softmax(capsys):
    elmolite("evaluate", FIXTURES / "model", FIXTURES / "inputs" / "text.txt", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["running_text"]["n_targets"] == 2681
    assert found["running_text"]["forward"] < found["running_text"]["backward"] < 60


@pytest.mark.parametrize(("name", "file"), [("task-classify", "classify.txt"), ("task-tag", "tag.conll")])
def test_a_task(tmp_path, capsys, expected, name, file):
    found = TaskCheckpoint.from_pretrained(FIXTURES / name).predict([sentence for sentence in SENTENCES if sentence])
    assert json.dumps([list(each.labels) for each in found]) == str(expected[f"{name}.labels"])
    probabilities = np.concatenate([np.ravel(each.probabilities) for each in found])
    np.testing.assert_allclose(probabilities, expected[f"{name}.probabilities"], rtol=0, atol=1e-5)
    elmolite("predict", FIXTURES / name, "--input", FIXTURES / "inputs" / file, "--output", tmp_path / "out")
    capsys.readouterr()
    elmolite("test", FIXTURES / name, FIXTURES / "inputs" / file, "--json")
    assert json.loads(capsys.readouterr().out)["value"] > 0.8


def test_an_embedding_folder(expected):
    folder = EmbeddingFolder(FIXTURES / "embeddings")
    assert len(folder) == len(SENTENCES)
    assert folder[6].shape[1] == 0  # a blank line
    found = np.concatenate([folder[i] for i in range(len(folder))], axis=1)
    np.testing.assert_array_equal(found, expected["embeddings"])


def test_an_embedding_folder_is_continued(tmp_path, capsys, expected):
    shutil.copytree(FIXTURES / "embeddings", tmp_path / "embeddings")
    text = tmp_path / "longer.txt"
    text.write_text("\n".join([*SENTENCES, "Baé."]) + "\n", encoding="utf-8")
    elmolite("embed", FIXTURES / "model", "--input", text, "--output", tmp_path / "embeddings")
    assert f"{len(SENTENCES)} of them by an earlier run" in capsys.readouterr().out
    folder = EmbeddingFolder(tmp_path / "embeddings")
    assert len(folder) == len(SENTENCES) + 1
    found = np.concatenate(list(folder)[:-1], axis=1)
    np.testing.assert_allclose(found, expected["embeddings"], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The loaded checkpoint was produced with Lightning")  # 2.6.6
def test_a_run_is_resumed(tmp_path, expected):
    shutil.copytree(FIXTURES / "run", tmp_path / "run")
    elmolite("pretrain", "--out", tmp_path / "run", "--corpus", FIXTURES / "corpus", "--resume")
    with (tmp_path / "run" / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows if row["loss"]]
    assert steps == list(range(1, 81))
    found = np.array([[float(row[name]) for name in PERPLEXITIES] for row in rows if row["valid_average"]])
    before = sum(int(row["step"]) <= 40 for row in rows if row["valid_average"])
    np.testing.assert_allclose(found[:before], expected["run.perplexities"][:before])
    # Since then, the random numbers of dropout have changed.
    np.testing.assert_allclose(found, expected["run.perplexities"], rtol=0.05)
    assert vectors_of(tmp_path / "run" / "model").shape == expected["run.vectors"].shape


def test_the_imports_of_the_readme_of_0_1(model_folder, tmp_path):
    """From :mod:`elmolite.tasks.words` see tests/tasks/test_checkpoint.py."""
    with pytest.warns(FutureWarning, match=r"use elmolite\.tasks\.compare"):
        from elmolite.comparison import baselines
    with pytest.warns(FutureWarning, match=r"elmolite\.finetuning_setup is deprecated"):
        from elmolite.finetuning_setup import TaskExamples, set_up
    (tmp_path / "train.txt").write_text("a ban\nb kin\n" * 10)
    with pytest.warns(FutureWarning, match="is_untrained is deprecated"):
        run = set_up(
            TaskExamples.read("classify", train=tmp_path / "train.txt"), encoder=model_folder, is_untrained=False
        )
    assert "untrained, mix" in baselines(run)
