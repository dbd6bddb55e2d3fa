"""Folders that version 0.1 wrote open, and give what they gave: through the public interface alone.

Run as a program this file records what they give; that was done with version 0.1, and must not be done again.
"""

import csv
import json
import shutil
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from elmolite import Corpus, ELMo, EmbeddingFolder, TaskCheckpoint

FIXTURES = Path(__file__).parent / "fixtures" / "v0_1"
EXPECTED = FIXTURES / "expected.npz"
SENTENCES = (FIXTURES / "inputs" / "sentences.txt").read_text(encoding="utf-8").splitlines()
WITH_WORDS = [sentence for sentence in SENTENCES if sentence]
TASKS = ("task-classify", "task-tag")
PERPLEXITIES = ("valid_forward", "valid_backward", "valid_average")


def elmolite(*arguments):
    """Run a command in this process; it must succeed."""
    (command,) = entry_points(group="console_scripts", name="elmolite")
    assert command.load()([str(argument) for argument in arguments]) == 0


def vectors_of(model):
    """Vectors of all layers of the sentences, side by side."""
    return np.concatenate(ELMo.from_pretrained(model).embed(SENTENCES), axis=1)


def predictions_of(folder):
    """Labels, as JSON, and probabilities."""
    found = TaskCheckpoint.from_pretrained(folder).predict(WITH_WORDS)
    labels = json.dumps([list(each.labels) for each in found])
    return np.array(labels), np.concatenate([np.ravel(each.probabilities) for each in found])


def resume(folder):
    """Go on with the run to its end, under its own settings; return the vectors of its model, and its log."""
    shutil.copytree(FIXTURES / "run", folder / "run")
    elmolite("pretrain", "--out", folder / "run", "--corpus", FIXTURES / "corpus", "--resume")
    with (folder / "run" / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return vectors_of(folder / "run" / "model"), rows


def perplexities_in(rows):
    return np.array([[float(row[name]) for name in PERPLEXITIES] for row in rows if row["valid_average"]])


@pytest.fixture(scope="module")
def expected():
    with np.load(EXPECTED) as arrays:
        return dict(arrays)


def test_a_corpus():
    corpus = Corpus.open(FIXTURES / "corpus")
    assert len(corpus.vocabulary) == 200
    assert (corpus.train.n_sentences, corpus.train.n_tokens) == (395, 2258)
    assert (corpus.valid.n_sentences, corpus.valid.n_tokens) == (5, 23)
    for part in (corpus.train, corpus.valid):
        assert corpus.rows(np.asarray(part.tokens), "characters").shape == (len(part.tokens), 50)


def test_a_corpus_can_be_trained_on(tmp_path):
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


@pytest.mark.parametrize("name", TASKS)
def test_a_task(name, expected):
    labels, probabilities = predictions_of(FIXTURES / name)
    assert str(labels) == str(expected[f"{name}.labels"])
    np.testing.assert_allclose(probabilities, expected[f"{name}.probabilities"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "file"), [("task-classify", "classify.txt"), ("task-tag", "tag.conll")])
def test_a_task_on_the_command_line(tmp_path, capsys, name, file):
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


def test_an_embedding_folder_is_gone_on_with(tmp_path, capsys, expected):
    shutil.copytree(FIXTURES / "embeddings", tmp_path / "embeddings")
    text = tmp_path / "longer.txt"
    text.write_text("\n".join([*SENTENCES, "Baé."]) + "\n", encoding="utf-8")
    elmolite("embed", FIXTURES / "model", "--input", text, "--output", tmp_path / "embeddings")
    assert f"{len(SENTENCES)} of them by an earlier run" in capsys.readouterr().out
    folder = EmbeddingFolder(tmp_path / "embeddings")
    assert len(folder) == len(SENTENCES) + 1
    found = np.concatenate(list(folder)[:-1], axis=1)
    np.testing.assert_allclose(found, expected["embeddings"], rtol=0, atol=1e-5)


def test_a_run_is_gone_on_with(tmp_path, expected):
    vectors, rows = resume(tmp_path)
    steps = [int(row["step"]) for row in rows if row["loss"]]
    assert steps == list(range(1, 81))
    before = sum(int(row["step"]) <= 40 for row in rows if row["valid_average"])
    np.testing.assert_allclose(perplexities_in(rows)[:before], expected["run.perplexities"][:before])
    # Since then, the random numbers of dropout have changed.
    np.testing.assert_allclose(perplexities_in(rows), expected["run.perplexities"], rtol=0.05)
    assert vectors.shape == expected["run.vectors"].shape


def _record(scratch):
    of_folder = list(EmbeddingFolder(FIXTURES / "embeddings"))
    arrays = {"model": vectors_of(FIXTURES / "model"), "embeddings": np.concatenate(of_folder, axis=1)}
    for name in TASKS:
        arrays[f"{name}.labels"], arrays[f"{name}.probabilities"] = predictions_of(FIXTURES / name)
    arrays["run.vectors"], rows = resume(scratch)
    np.savez_compressed(EXPECTED, **arrays, **{"run.perplexities": perplexities_in(rows)})


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    if EXPECTED.exists():
        sys.exit(f"{EXPECTED} is there already: version 0.1 gave that")
    with TemporaryDirectory() as folder:
        _record(Path(folder))
