import json

import pytest

from elmolite.errors import InputError
from elmolite.tasks.config import InputConfig
from elmolite.tasks.examples.example import Example
from elmolite.tasks.model import TaskDescription
from elmolite.tasks.task_scores import check_labels, score


def describe(task, labels, **options):
    return TaskDescription(task, labels, InputConfig(), None, **options)


SPANS = describe("tag", ("B-X", "I-X", "O"), scheme="BIO")


def test_one_label_each_is_measured_by_accuracy():
    scores = score(describe("classify", ("a", "b")), [("a",), ("b",), ("c",)], [("a",), ("a",), ("b",)])
    assert (scores.name, scores.value) == ("accuracy", pytest.approx(1 / 3))
    assert scores.labels.labels["c"].recall == 0
    assert scores.confusion.labels == ["a", "b", "c"]
    assert scores.spans is None
    assert "accuracy 0.3333 of 3 examples" in scores.describe()


def test_label_sets_are_measured_by_micro_f1():
    description = describe("classify", ("a", "b"), is_multi_label=True)
    scores = score(description, [("a", "b"), (), ("a",)], [("a",), ("b",), ("a",)])
    assert (scores.name, scores.value) == ("F1", pytest.approx(2 * 2 / (3 + 3)))
    assert scores.confusion is None
    assert "accuracy 0.3333" in scores.describe()


def test_tags_are_measured_by_the_accuracy_of_tokens():
    scores = score(describe("tag", ("N", "V")), [("N", "V"), ("N",)], [("N", "N"), ("N",)])
    assert (scores.name, scores.value) == ("accuracy", pytest.approx(2 / 3))
    assert "of 3 tokens" in scores.describe()
    assert scores.confusion.counts.sum() == 3


def test_spans_are_measured_by_exact_f1():
    gold = [("B-X", "I-X", "O", "B-X")]
    scores = score(SPANS, gold, [("B-X", "O", "O", "B-X")])
    assert (scores.name, scores.value) == ("F1", pytest.approx(0.5))
    assert scores.labels.accuracy == 0.75
    assert scores.spans.labels["X"].support == 2
    assert scores.describe() == scores.spans.describe()


@pytest.mark.parametrize(
    ("description", "gold"),
    [(describe("classify", ("a",)), ("a",)), (SPANS, ("B-X",)), (describe("tag", ("N",)), ("N",))],
)
def test_scores_are_json(description, gold):
    scores = score(description, [gold], [gold])
    content = json.loads(json.dumps(scores.as_dict()))
    assert content["value"] == 1
    assert content["name"] == scores.name
    assert ("spans" in content) == (description is SPANS)
    assert content["confusion"]["counts"] == [[1]]


@pytest.mark.parametrize(
    ("description", "labels", "message"),
    [
        (
            describe("classify", ("a", "b")),
            ("a", "b"),
            "dev.txt, line 2: 2 labels; the examples to learn from have one",
        ),
        (describe("classify", ("a", "b")), (), "dev.txt, line 2: 0 labels"),
        (SPANS, ("O", "weird"), "dev.txt, line 2: .*token 2: 'weird' is no tag of a span"),
    ],
)
def test_labels_that_cannot_be_measured_are_named(description, labels, message):
    good = Example(("a",), ("a",) if description.task == "classify" else ("B-X",), "dev.txt, line 1")
    with pytest.raises(InputError, match=message):
        check_labels(description, [good, Example(("x",), labels, "dev.txt, line 2")])


@pytest.mark.parametrize(
    ("description", "labels"),
    [
        (describe("classify", ("a", "b")), ("unheard",)),
        (describe("classify", ("a", "b"), is_multi_label=True), ()),
        (describe("tag", ("N", "V")), ("N", "weird")),
        (SPANS, ("B-Y", "I-Y")),
    ],
)
def test_labels_that_training_did_not_know_can_be_measured(description, labels):
    check_labels(description, [Example(("a",), labels, "dev.txt, line 1")])
