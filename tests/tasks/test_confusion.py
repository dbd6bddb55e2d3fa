import json
import random

import numpy as np
import pytest
import sklearn.metrics

from elmolite.errors import InputError
from elmolite.tasks.confusion import confusion_matrix


@pytest.mark.parametrize("labels", [None, ["c", "a", "b", "never"]])
def test_counts_are_those_of_scikit_learn(labels):
    rng = random.Random(0)
    gold, predicted = (rng.choices("abc", k=200) for _ in range(2))
    confusion = confusion_matrix(gold, predicted, labels=labels)
    assert np.array_equal(confusion.counts, sklearn.metrics.confusion_matrix(gold, predicted, labels=labels))
    assert confusion.labels == (labels or ["a", "b", "c"])
    assert json.loads(json.dumps(confusion.as_dict()))["counts"] == confusion.counts.tolist()


def test_a_small_matrix_is_shown_whole():
    confusion = confusion_matrix(["no", "yes", "yes"], ["no", "no", "yes"])
    assert confusion.describe().split("\n")[1:] == ["    no yes", "no   1   .", "yes  1   1"]
    long = confusion_matrix(["entailment", "neutral"], ["neutral"] * 2)
    assert long.describe().split("\n")[1:] == ["             1 2", "1 entailment . 1", "2 neutral    . 1"]


def test_of_a_large_matrix_the_most_frequent_confusions_are_shown():
    labels = [f"label {i}" for i in range(200)]
    confusion = confusion_matrix([*labels, "label 7", "label 7"], [*labels, "label 8", "label 8"])
    assert confusion.most_frequent(5) == [("label 7", "label 8", 2)]
    assert confusion.describe().split("\n")[2].split() == ["label", "7", "label", "8", "2", "66.7%"]
    assert confusion_matrix(labels, labels).describe() == "no confusions among 200 labels"


def test_no_examples():
    confusion = confusion_matrix([], [])
    assert confusion.counts.shape == (0, 0)
    assert confusion.most_frequent(3) == []
    assert confusion_matrix([], [], labels=["a"]).counts.tolist() == [[0]]
    assert confusion.describe() == "no confusions among 0 labels"


def test_a_label_that_is_not_listed_is_named():
    with pytest.raises(InputError, match="'neutrl' is not among the 2 labels; did you mean 'neutral'"):
        confusion_matrix(["neutral"], ["neutrl"], labels=["neutral", "x"])
    with pytest.raises(InputError, match="0 predictions for 1 examples"):
        confusion_matrix(["a"], [])
