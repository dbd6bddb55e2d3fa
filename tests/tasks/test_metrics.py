import json
import random

import numpy as np
import pytest
import sklearn.metrics
from seqeval.metrics import sequence_labeling
from sklearn.preprocessing import MultiLabelBinarizer

from elmolite.errors import InputError
from elmolite.tasks.config import InputConfig
from elmolite.tasks.examples.records import Example
from elmolite.tasks.metrics import check_labels, confusion_matrix, label_report, label_set_report, span_report
from elmolite.tasks.specs import TaskDescription


def check_against(report, reference, gold, predicted):
    """Compare the scores of each label and both averages with a reference implementation."""
    for average, ours in (("micro", report.micro), ("macro", report.macro)):
        expected = reference(gold, predicted, average=average, zero_division=0)
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(expected[:3], abs=1e-12)
    of_labels = [(one.precision, one.recall, one.f1, one.support) for one in report.labels.values()]
    expected = np.array(reference(gold, predicted, average=None, zero_division=0))
    np.testing.assert_allclose(np.array(of_labels).T, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_label_report_equals_scikit_learn(seed):
    rng = random.Random(seed)
    labels = ["yes", "no", "B-x", "名詞", ""][: rng.randint(2, 5)]
    gold, predicted = ([rng.choice(part) for _ in range(60)] for part in (labels, labels[:3]))
    report = label_report(gold, predicted)
    check_against(report, sklearn.metrics.precision_recall_fscore_support, gold, predicted)
    assert report.accuracy == sklearn.metrics.accuracy_score(gold, predicted)
    assert list(report.labels) == sorted({*gold, *predicted})
    confusion = confusion_matrix(gold, predicted)
    assert np.array_equal(confusion.counts, sklearn.metrics.confusion_matrix(gold, predicted))
    assert confusion.labels == list(report.labels)


@pytest.mark.parametrize("seed", range(5))
def test_label_set_report_equals_scikit_learn(seed):
    rng = random.Random(seed)
    gold, predicted = ([set(rng.choices("abcdef", k=rng.randint(0, 3))) for _ in range(50)] for _ in range(2))
    binarizer = MultiLabelBinarizer().fit([*gold, *predicted])
    as_matrices = binarizer.transform(gold), binarizer.transform(predicted)
    report = label_set_report(gold, predicted)
    check_against(report, sklearn.metrics.precision_recall_fscore_support, *as_matrices)
    assert report.accuracy == sklearn.metrics.accuracy_score(*as_matrices)
    assert label_set_report([[*one, *one] for one in gold], [list(one) for one in predicted]) == report


@pytest.mark.parametrize("letters", ["BI", "BIES"])
def test_span_report_equals_seqeval(letters):
    rng = random.Random(1)
    tags = ["O", *(f"{letter}-{kind}" for letter in letters for kind in ("x", "y", "a-b"))]
    for _ in range(20):
        gold = [[rng.choice(tags) for _ in range(rng.randint(1, 9))] for _ in range(40)]
        share = rng.random()
        predicted = [[rng.choice(tags) if rng.random() < share else tag for tag in sentence] for sentence in gold]
        report = span_report(gold, predicted)
        check_against(report, sequence_labeling.precision_recall_fscore_support, gold, predicted)
        assert report.accuracy == pytest.approx(sequence_labeling.accuracy_score(gold, predicted), abs=1e-12)


def test_ratios_without_denominator_are_zero():
    scores = label_report(["a", "a"], ["b", "b"]).labels
    assert (scores["a"].precision, scores["a"].recall, scores["b"].recall, scores["b"].f1) == (0, 0, 0, 0)
    for report in (label_report([], []), span_report([["O"]], [["O"]]), label_set_report([[]], [[]])):
        assert (report.macro.f1, report.micro.f1, report.micro.support, report.labels) == (0, 0, 0, {})
        assert report.accuracy == (1.0 if report.n_examples else 0.0)
        report.describe()


def test_report_as_json_and_as_table():
    report = span_report([["B-x", "I-x", "O", "B-y"]], [["B-x", "I-x", "B-y", "O"]])
    content = json.loads(json.dumps(report.as_dict()))
    assert content["micro"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert content["labels"]["x"]["f1"] == 1.0
    assert report.describe().split("\n") == [
        "               precision  recall      F1  support",
        "x                 1.0000  1.0000  1.0000        1",
        "y                 0.0000  0.0000  0.0000        1",
        "",
        "macro average     0.5000  0.5000  0.5000        2",
        "accuracy 0.5000 of 4 tokens",
    ]
    report = span_report([["B-x", "O"]], [["B-x", "B-y"]])
    assert "micro average     0.5000  1.0000  0.6667        1" in report.describe()


def test_small_confusion_matrices_are_shown_in_full_and_of_large_ones_the_most_frequent_confusions():
    confusion = confusion_matrix(["no", "yes", "yes"], ["no", "no", "yes"])
    assert confusion.describe().split("\n")[1:] == ["    no yes", "no   1   .", "yes  1   1"]
    long = confusion_matrix(["entailment", "neutral"], ["neutral"] * 2)
    assert long.describe().split("\n")[1:] == ["             1 2", "1 entailment . 1", "2 neutral    . 1"]
    labels = [f"label {i}" for i in range(200)]
    confusion = confusion_matrix([*labels, "label 7", "label 7"], [*labels, "label 8", "label 8"])
    assert confusion.most_frequent(5) == [("label 7", "label 8", 2)]
    assert confusion.describe().split("\n")[2].split() == ["label", "7", "label", "8", "2", "66.7%"]
    assert confusion_matrix(labels, labels).describe() == "no confusions among 200 labels"


def describe(task, labels, **options):
    return TaskDescription(task, labels, InputConfig(), None, **options)


LABELS, LABEL_SETS = describe("classify", ("a", "b")), describe("classify", ("a", "b"), is_multi_label=True)
TAGS, SPANS = describe("tag", ("N", "V")), describe("tag", ("B-X", "I-X", "O"), scheme="BIO")


@pytest.mark.parametrize(
    ("description", "gold", "predicted", "name", "value", "parts"),
    [
        (LABELS, [("a",), ("b",), ("c",)], [("a",), ("a",), ("b",)], "accuracy", 1 / 3, {"labels", "confusion"}),
        (LABEL_SETS, [("a", "b"), (), ("a",)], [("a",), ("b",), ("a",)], "F1", 2 * 2 / (3 + 3), {"labels"}),
        (TAGS, [("N", "V"), ("N",)], [("N", "N"), ("N",)], "accuracy", 2 / 3, {"labels", "confusion"}),
        (SPANS, [("B-X", "I-X", "O", "B-X")], [("B-X", "O", "O", "B-X")], "F1", 0.5, {"labels", "spans", "confusion"}),
    ],
)
def test_metric_of_each_kind_of_labels(description, gold, predicted, name, value, parts):
    scores = description.score(gold, predicted)
    assert (scores.name, scores.value) == (name, pytest.approx(value))
    assert scores.as_dict().keys() == {"name", "value", *parts}
    assert scores.describe().startswith((scores.spans or scores.labels).describe())
    assert ("gold label, columns" in scores.describe()) == (parts == {"labels", "confusion"})


@pytest.mark.parametrize(
    ("description", "labels", "message"),
    [
        (LABELS, ("a", "b"), "dev.txt, line 2: 2 labels; the training examples have one"),
        (SPANS, ("O", "weird"), "dev.txt, line 2: 'weird' is not a span tag"),
    ],
)
def test_labels_that_cannot_be_scored_are_refused(description, labels, message):
    good = Example(("a",), ("a",) if description.task == "classify" else ("B-X",), "dev.txt, line 1")
    with pytest.raises(InputError, match=message):
        check_labels(description, [good, Example(("x",), labels, "dev.txt, line 2")])
