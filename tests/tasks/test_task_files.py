import json

import numpy as np
import pytest
from small_tasks import (
    WRITERS,
    setup_of,
    span_tags,
    train,
    write_label_sets,
    write_tagged,
)

from elmolite.errors import InputError
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.examples.records import ExampleColumns
from elmolite.tasks.predict import evaluate_file, predict_file

SEPARATED = ExampleColumns(label_separator="|")
COLUMNS = {"label sets": SEPARATED, "classify": ExampleColumns(format="label-text")}


CLASSES = ["left ban né", "right kin", "left bast", "right kist"] * 8


@pytest.fixture(scope="module")
def tasks(tmp_path_factory, model_folder):
    """A trained task of each kind, and the labelled file that it learnt."""
    folder = tmp_path_factory.mktemp("tasks")
    writers = {**WRITERS, "spans": lambda path: write_tagged(path, span_tags), "label sets": write_label_sets}
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmolite.tasks.finetune._draw", lambda *of_the_run: None)
        for name, write in writers.items():
            path = write(folder / name)
            task = {"spans": "tag", "label sets": "classify"}.get(name, name)
            columns = COLUMNS.get(name, ExampleColumns())
            setup = setup_of(model_folder, task, train=path, columns=columns)
            found[name] = (train(setup, folder / f"{name} run", n_epochs=4), path)
    return found


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def records(tasks, name, path, columns=ExampleColumns()):  # noqa: B008
    return list(predict_file(tasks[name][0].folder, path, columns))


def test_sentences_get_a_label_and_the_probabilities_of_all(tasks, tmp_path):
    path = write(tmp_path / "new.txt", "ban bast", "kin unheard-of")
    found = records(tasks, "classify", path)
    assert [list(record) for record in found] == [["text", "label", "probabilities"]] * 2
    assert [record["text"] for record in found] == ["ban bast", "kin unheard-of"]
    for record in found:
        assert list(record["probabilities"]) == ["left", "right"]
        assert sum(record["probabilities"].values()) == pytest.approx(1)
        assert record["label"] == max(record["probabilities"], key=record["probabilities"].get)
    json.dumps(found)


def test_words_get_a_tag_and_its_probability(tasks, tmp_path):
    path = write(tmp_path / "new.txt", "ban kin kist lun", "bast")
    for name in ("tag", "spans"):
        found = records(tasks, name, path)
        assert [record["tokens"] for record in found] == [["ban", "kin", "kist", "lun"], ["bast"]]
        checkpoint = TaskCheckpoint.from_pretrained(tasks[name][0].folder)
        for record, prediction in zip(found, checkpoint.predict([r["tokens"] for r in found]), strict=True):
            assert list(record) == ["tokens", "tags", "probabilities"]
            np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, rtol=1e-5)
            at = [checkpoint.description.labels.index(tag) for tag in record["tags"]]
            of_tags = prediction.probabilities[np.arange(len(at)), at]
            np.testing.assert_allclose(record["probabilities"], of_tags, atol=1e-6)
    json.dumps(found)


def test_pairs_are_told_apart(tasks, tmp_path):
    found = records(tasks, "entail", write(tmp_path / "new.tsv", "premise\thypothesis", "ban\tkin kist"))
    assert {name: found[0][name] for name in ("premise", "hypothesis")} == {"premise": "ban", "hypothesis": "kin kist"}
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1)


def test_label_sets_have_a_probability_each(tasks, tmp_path):
    (record,) = records(tasks, "label sets", write(tmp_path / "new.txt", "ban kin"))
    assert "label" not in record
    assert record["labels"] == [label for label, p in record["probabilities"].items() if p >= 0.5]


@pytest.mark.parametrize("name", ["classify", "tag", "entail", "spans", "label sets"])
def test_gold_labels_are_beside_the_predicted_ones(tasks, name):
    run, path = tasks[name]
    columns = COLUMNS.get(name, ExampleColumns())
    found = records(tasks, name, path, columns)
    predicted = {"classify": "label", "entail": "label", "label sets": "labels"}.get(name, "tags")
    with_gold = [record for record in found if "gold" in record]
    assert len(with_gold) >= len(found) / 2
    if name in ("classify", "entail"):
        share = np.mean([record["gold"] == record[predicted] for record in found])
        assert share == pytest.approx(run.dev.value)
    else:
        assert all(isinstance(record["gold"], list) for record in with_gold)
    assert evaluate_file(run.folder, path, columns).value == pytest.approx(run.dev.value)


@pytest.mark.parametrize(
    ("lines", "texts", "gold"),
    [
        (["left ban kin", "right kin"], ["ban kin", "kin"], ["left", "right"]),
        (["left ban kin", "kin ban"], ["left ban kin", "kin ban"], None),
        (["left", "right kin"], ["left", "right kin"], None),
    ],
)
def test_lines_that_all_begin_with_a_label_of_the_task_are_labelled(tasks, tmp_path, lines, texts, gold):
    found = records(tasks, "classify", write(tmp_path / "a.txt", *lines))
    assert [record["text"] for record in found] == texts
    assert [record.get("gold") for record in found] == (gold or [None] * len(texts))


def test_unknown_labels_count_as_missed(tasks, tmp_path):
    run, path = tasks["classify"]
    known = evaluate_file(run.folder, path)
    lines = path.read_text().splitlines()
    more = write(tmp_path / "more.txt", *lines, *[f"never {line.split(maxsplit=1)[1]}" for line in lines])
    scores = evaluate_file(run.folder, more)
    assert scores.value == pytest.approx(known.value / 2)
    assert scores.labels.labels["never"].recall == 0
    assert scores.labels.labels["never"].support == len(lines)


def test_unknown_spans_count_as_missed(tasks, tmp_path):
    run, _ = tasks["spans"]
    spans = evaluate_file(run.folder, write(tmp_path / "a.conll", "ban\tB-NEW", "bast\tI-NEW", "", "ban\tO", "")).spans
    assert spans.labels["NEW"].recall == 0
    assert spans.micro.support == 1


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("classify", ["text\tlabel", "ban\tleft", "kin\t"], "line 3: no label"),
        ("spans", ["ban\tO", "kin\tNOUN", ""], "line 1.*'NOUN' is not a span tag"),
        ("tag", ["ban\tba", "kin", ""], "line 2"),
        ("classify", [""], "the file is empty"),
    ],
)
def test_what_cannot_be_measured_is_named(tasks, tmp_path, name, lines, message):
    path = write(tmp_path / "given.tsv", *lines)
    with pytest.raises(InputError, match=rf"given\.tsv.*{message}"):
        evaluate_file(tasks[name][0].folder, path)


def test_several_labels_where_the_task_has_one_are_named(tasks, tmp_path):
    path = write(tmp_path / "given.tsv", "text\tlabel", "ban\tleft", "kin\tleft|right")
    with pytest.raises(InputError, match=r"given\.tsv, line 3: 2 labels"):
        evaluate_file(tasks["classify"][0].folder, path, SEPARATED)


def test_the_folder_comes_before_the_file(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such task folder"):
        list(predict_file("nowhere", tmp_path / "neither.txt"))


def test_how_the_training_examples_were_laid_out_is_remembered(tasks):
    run, path = tasks["label sets"]
    assert evaluate_file(run.folder, path).value == evaluate_file(run.folder, path, SEPARATED).value == run.dev.value
    with pytest.raises(InputError, match="no column 'other'"):
        evaluate_file(run.folder, path, ExampleColumns(label="other"))


def test_how_the_training_examples_were_laid_out_is_remembered_for_what_is_predicted(model_folder, tmp_path):
    rows = [f"{i}\t{line.partition(' ')[2]}\t{line.split()[0]}" for i, line in enumerate(CLASSES)]
    path = write(tmp_path / "a.tsv", *rows)
    columns = ExampleColumns(text="2", label="3")
    run = train(setup_of(model_folder, "classify", train=path, columns=columns), tmp_path / "run", n_epochs=1)
    found = list(predict_file(run.folder, path))
    assert [(each["text"], each["gold"]) for each in found[:2]] == [("ban né", "left"), ("kin", "right")]
    plain = write(tmp_path / "c.txt", "ban né", "kin")
    assert [each["text"] for each in predict_file(run.folder, plain)] == ["ban né", "kin"]
    with pytest.raises(InputError, match="no column '7'"):
        list(predict_file(run.folder, path, ExampleColumns(text="7")))


def test_plain_text_is_cut_as_the_language_model_s_was_or_at_white_space(tmp_path):
    train_file = write(tmp_path / "a.conll", "I\tA", "saw\tB", "", "York\tB", ",\tA")
    run = train(setup_of("mini-en", "tag", train=train_file), tmp_path / "run", n_epochs=1)
    path = write(tmp_path / "new.txt", "I saw York, really.")
    assert next(predict_file(run.folder, path))["tokens"] == ["I", "saw", "York", ",", "really", "."]
    assert next(predict_file(run.folder, path, pretokenized=True))["tokens"] == ["I", "saw", "York,", "really."]


def test_pairs_without_an_agreed_label_are_reported(tasks, tmp_path, caplog):
    run, path = tasks["entail"]
    lines = path.read_text(encoding="utf-8").splitlines()
    evaluate_file(run.folder, write(tmp_path / "a.tsv", *lines, "ban\tkin\t-"))
    assert "a.tsv: pairs without an agreed label left out: 1 (first in line" in caplog.text


def test_unseen_labels_are_reported(tasks, tmp_path, caplog):
    run, path = tasks["classify"]
    lines = path.read_text(encoding="utf-8").splitlines()
    strange = write(tmp_path / "a.txt", *lines[:3], "never ban", *lines[3:])
    value = evaluate_file(run.folder, strange, COLUMNS["classify"]).value
    assert value < run.dev.value
    assert caplog.messages == [
        f"{strange}, line 4: label 'never' is not among the 2 labels of the training examples; 1 examples have unseen "
        "labels, which count as errors"
    ]
