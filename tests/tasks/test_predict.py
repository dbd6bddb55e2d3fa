import json

import numpy as np
import pytest
from helpers.small_tasks import setup_of, train, write_lines

from elmolite.errors import InputError
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.config import ExampleColumns
from elmolite.tasks.predict import evaluate_file, predict_file

pytestmark = pytest.mark.usefixtures("no_pictures", "own_cache")

SEPARATED = ExampleColumns(label_separator="|")


def records(tasks, name, path, columns=ExampleColumns()):  # noqa: B008
    return list(predict_file(tasks[name][0].folder, path, columns))


def test_sentences_get_a_label_and_the_probabilities_of_all(tasks, tmp_path):
    found = records(tasks, "classify", write_lines(tmp_path / "new.txt", "ban bast", "kin unheard-of"))
    assert [record["text"] for record in found] == ["ban bast", "kin unheard-of"]
    for record in found:
        assert list(record) == ["text", "label", "probabilities"]
        assert list(record["probabilities"]) == ["left", "right"]
        assert sum(record["probabilities"].values()) == pytest.approx(1)
        assert record["label"] == max(record["probabilities"], key=record["probabilities"].get)
    json.dumps(found)


@pytest.mark.parametrize("name", ["tag", "spans"])
def test_tokens_get_a_tag_and_its_probability(tasks, tmp_path, name):
    found = records(tasks, name, write_lines(tmp_path / "new.txt", "ban kin kist lun", "bast"))
    assert [record["tokens"] for record in found] == [["ban", "kin", "kist", "lun"], ["bast"]]
    checkpoint = TaskCheckpoint.from_pretrained(tasks[name][0].folder)
    for record, prediction in zip(found, checkpoint.predict([r["tokens"] for r in found]), strict=True):
        assert list(record) == ["tokens", "tags", "probabilities"]
        np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, rtol=1e-5)
        indices = [checkpoint.description.labels.index(tag) for tag in record["tags"]]
        expected = prediction.probabilities[np.arange(len(indices)), indices]
        np.testing.assert_allclose(record["probabilities"], expected, atol=1e-6)
    json.dumps(found)


def test_label_sets_have_independent_probabilities(tasks, tmp_path):
    (record,) = records(tasks, "label sets", write_lines(tmp_path / "new.txt", "ban kin"))
    assert "label" not in record
    assert record["labels"] == [label for label, p in record["probabilities"].items() if p >= 0.5]


@pytest.mark.parametrize("name", ["classify", "tag", "entail", "spans", "label sets"])
def test_records_hold_the_gold_labels(tasks, name):
    run, path = tasks[name]
    found = records(tasks, name, path)
    assert sum("gold" in record for record in found) >= len(found) / 2
    if name in ("classify", "entail"):
        accuracy = np.mean([record["gold"] == record["label"] for record in found])
        assert accuracy == pytest.approx(run.dev.value)
    assert evaluate_file(run.folder, path).value == pytest.approx(run.dev.value)


def test_unseen_labels_count_as_errors(tasks, tmp_path, caplog):
    run, path = tasks["classify"]
    known = evaluate_file(run.folder, path)
    lines = path.read_text().splitlines()
    more = write_lines(tmp_path / "more.txt", *lines, *[f"never {line.split(maxsplit=1)[1]}" for line in lines])
    scores = evaluate_file(run.folder, more)
    assert scores.value == pytest.approx(known.value / 2)
    assert scores.labels.labels["never"].recall == 0
    assert f"{more}, line {len(lines) + 1}: label 'never' is not among the 2 labels" in caplog.text


def test_examples_without_label_cannot_be_scored(tasks, tmp_path):
    path = write_lines(tmp_path / "given.tsv", "text\tlabel", "ban\tleft", "kin\t")
    with pytest.raises(InputError, match=r"given\.tsv, line 3: no label"):
        evaluate_file(tasks["classify"][0].folder, path, ExampleColumns(format="tsv"))


def test_the_columns_of_the_training_examples_are_the_default(tasks):
    run, path = tasks["label sets"]
    assert evaluate_file(run.folder, path).value == evaluate_file(run.folder, path, SEPARATED).value == run.dev.value
    with pytest.raises(InputError, match="no column 'other'"):
        evaluate_file(run.folder, path, ExampleColumns(label="other"))


def test_text_is_tokenized_as_the_language_model_s_or_split_at_white_space(tmp_path):
    train_file = write_lines(tmp_path / "a.conll", "I\tA", "saw\tB", "", "York\tB", ",\tA")
    run = train(setup_of("mini-en", "tag", train=train_file), tmp_path / "run", n_epochs=1)
    path = write_lines(tmp_path / "new.txt", "I saw York, really.")
    assert next(predict_file(run.folder, path))["tokens"] == ["I", "saw", "York", ",", "really", "."]
    assert next(predict_file(run.folder, path, pretokenized=True))["tokens"] == ["I", "saw", "York,", "really."]
