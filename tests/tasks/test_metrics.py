import gzip
import json
import random
import time
from itertools import chain

import numpy as np
import pytest
import sklearn.metrics
from conftest import SHARED, needs_shared
from seqeval.metrics import sequence_labeling, v1
from seqeval.scheme import IOB2, IOBES
from sklearn.preprocessing import MultiLabelBinarizer

from elmolite.errors import InputError
from elmolite.tasks.metrics import accuracy, label_report, multi_label_report, span_report, token_report
from elmolite.tasks.spans import to_bioul


def check_against(report, reference, gold, predicted, **options):
    """Hold the scores of each label and both averages against a library's."""
    for average, ours in (("micro", report.micro), ("macro", report.macro)):
        expected = reference(gold, predicted, average=average, zero_division=0, **options)
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(expected[:3], abs=1e-12)
    of_labels = [(one.precision, one.recall, one.f1, one.support) for one in report.labels.values()]
    expected = np.array(reference(gold, predicted, average=None, zero_division=0, **options))
    np.testing.assert_allclose(np.array(of_labels).T, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_labels_are_measured_as_scikit_learn_does(seed):
    rng = random.Random(seed)
    labels = ["yes", "no", "B-x", "名詞", ""][: rng.randint(1, 5)]
    gold, predicted = ([rng.choice(part) for _ in range(60)] for part in (labels, labels[:3]))
    report = label_report(gold, predicted)
    check_against(report, sklearn.metrics.precision_recall_fscore_support, gold, predicted)
    assert report.accuracy == accuracy(gold, predicted) == sklearn.metrics.accuracy_score(gold, predicted)
    assert list(report.labels) == sorted({*gold, *predicted})
    assert label_report(np.array(gold), np.array(predicted)) == report


@pytest.mark.parametrize("seed", range(20))
def test_sets_of_labels_are_measured_as_scikit_learn_does(seed):
    rng = random.Random(seed)
    gold, predicted = ([set(rng.choices("abcdef", k=rng.randint(0, 3))) for _ in range(50)] for _ in range(2))
    binarizer = MultiLabelBinarizer().fit([*gold, *predicted])
    as_matrices = binarizer.transform(gold), binarizer.transform(predicted)
    report = multi_label_report(gold, predicted)
    check_against(report, sklearn.metrics.precision_recall_fscore_support, *as_matrices)
    assert report.accuracy == sklearn.metrics.accuracy_score(*as_matrices)
    assert multi_label_report([[*one, *one] for one in gold], [list(one) for one in predicted]) == report


def perturbed(sequences, share, *, seed=0):
    rng = random.Random(seed)
    tags = sorted(set(chain.from_iterable(sequences)))
    return [[rng.choice(tags) if rng.random() < share else tag for tag in sequence] for sequence in sequences]


def check_spans(gold, predicted, *, strict, scheme):
    report = span_report(gold, predicted)
    check_against(report, sequence_labeling.precision_recall_fscore_support, gold, predicted)
    assert report.accuracy == pytest.approx(sequence_labeling.accuracy_score(gold, predicted), abs=1e-12)
    report = span_report(gold, predicted, strict=strict)
    check_against(report, v1.precision_recall_fscore_support, gold, predicted, scheme=scheme)


@pytest.mark.parametrize(("letters", "strict", "scheme"), [("BI", "BIO", IOB2), ("BIES", "BIOUL", IOBES)])
def test_spans_of_random_tags_are_measured_as_seqeval_does(letters, strict, scheme):
    rng = random.Random(1)
    tags = ["O", *(f"{letter}-{kind}" for letter in letters for kind in ("x", "y", "a-b"))]
    for _ in range(30):
        gold = [[rng.choice(tags) for _ in range(rng.randint(1, 9))] for _ in range(40)]
        check_spans(gold, perturbed(gold, rng.random()), strict=strict, scheme=scheme)


def read_tags(name):
    with gzip.open(SHARED / "tagging" / name, "rt", encoding="utf-8") as file:
        blocks = file.read().split("\n\n")
    return [[line.split("\t")[1] for line in block.split("\n") if line] for block in blocks if block.strip()]


@needs_shared
@pytest.mark.parametrize("share", [0.02, 0.3])
@pytest.mark.parametrize("name", ["dev", "test"])
def test_spans_of_real_tags_are_measured_as_seqeval_does(name, share):
    gold = read_tags(f"wnut17.{name}.conll.gz")
    assert sum(map(len, gold)) > 10_000
    check_spans(gold, perturbed(gold, share), strict="BIO", scheme=IOB2)
    gold = [to_bioul(tags, letters="ES") for tags in gold]
    check_spans(gold, perturbed(gold, share), strict="BIOUL", scheme=IOBES)


def test_a_ratio_without_a_denominator_is_zero():
    scores = label_report(["a", "a"], ["b", "b"]).labels
    assert (scores["a"].precision, scores["a"].recall, scores["b"].recall, scores["b"].f1) == (0, 0, 0, 0)
    for report in (
        label_report([], []),
        token_report([], []),
        span_report([], []),
        span_report([[]], [[]]),
        span_report([["O"]], [["O"]]),
        multi_label_report([], []),
        multi_label_report([[]], [[]]),
    ):
        assert (report.macro.f1, report.micro.f1, report.micro.support, report.labels) == (0, 0, 0, {})
        assert report.accuracy == (1.0 if report.n_examples else 0.0)
        report.describe()


def test_a_type_without_spans_is_no_part_of_the_macro_average():
    report = span_report([["I-x", "B-y"]], [["O", "B-y"]], strict="BIO")
    assert list(report.labels) == ["y"]
    assert report.macro.f1 == 1


def test_tokens_are_measured_one_by_one():
    report = token_report([["a", "b"], [], ["a"]], [["a", "a"], [], ["a"]])
    assert (report.accuracy, report.n_examples, report.unit) == (2 / 3, 3, "tokens")


def test_predictions_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="1 predictions for 2 examples"):
        label_report(["a", "b"], ["a"])
    for measure in (token_report, span_report):
        with pytest.raises(InputError, match="sentence 2: 2 predicted tags for 1 tokens"):
            measure([["O"], ["O"]], [["O"], ["O", "O"]])
        with pytest.raises(InputError, match="predictions for 0 sentences where there are 1"):
            measure([["O"]], [])
    with pytest.raises(InputError, match="are the text 'ab': expected a set or list"):
        multi_label_report([["a"]], ["ab"])


def test_the_report_goes_to_json_and_to_the_terminal():
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


def test_of_many_labels_the_table_shows_the_most_frequent():
    gold = [f"label {i}" for i in range(100) for _ in range(100 - i)]
    lines = label_report(gold, gold).describe().split("\n")
    assert lines[1].startswith("label 0 ")
    assert lines[40].startswith("label 39 ")
    assert lines[41] == "mean of 60 rarer ones     1.0000  1.0000  1.0000    1,830"
    assert len(lines) == 45


def test_a_million_tokens_take_about_a_second():
    rng = random.Random(0)
    tags = ["O", *(f"{letter}-{kind}" for letter in "BI" for kind in "xyz")]
    gold, predicted = ([rng.choices(tags, k=1000) for _ in range(1000)] for _ in range(2))
    started = time.process_time()
    span_report(gold, predicted)
    token_report(gold, predicted)
    assert time.process_time() - started < 5
