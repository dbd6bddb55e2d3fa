from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from elmolite.nn.cross_entropy import IGNORE_INDEX
from elmolite.tasks.objectives import MultiLabel, SequenceLabels, SingleLabel, TokenLabels

LABELS = ("a", "b", "c")
MASK = torch.tensor([[True, True, True], [True, False, False]])


def scores_of_words():
    return torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))


def test_single_label():
    objective = SingleLabel(LABELS)
    scores = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    targets = objective.targets([("c",), ("a",)])
    assert targets.tolist() == [2, 0]
    torch.testing.assert_close(objective.loss(scores, targets, MASK), F.cross_entropy(scores, targets))
    predictions = objective.predict(scores, MASK)
    assert [prediction.labels for prediction in predictions] == [("b",), ("a",)]
    np.testing.assert_allclose(predictions[0].probabilities, scores[0].softmax(0), rtol=1e-6)


def test_multi_label():
    objective = MultiLabel(LABELS)
    scores = torch.tensor([[0.5, -2.0, 1.0], [-3.0, -0.1, -5.0]])
    targets = objective.targets([("c", "a"), ()])
    assert targets.tolist() == [[1, 0, 1], [0, 0, 0]]
    expected = -F.logsigmoid(torch.where(targets > 0, scores, -scores)).mean()
    torch.testing.assert_close(objective.loss(scores, targets, MASK), expected)
    assert [prediction.labels for prediction in objective.predict(scores, MASK)] == [("a", "c"), ()]


def test_tags_by_softmax_leave_padding_out():
    objective, scores = TokenLabels(LABELS), scores_of_words()
    targets = objective.targets([("a", "b", "c"), ("b",)])
    assert targets.tolist() == [[0, 1, 2], [1, IGNORE_INDEX, IGNORE_INDEX]]
    expected = F.cross_entropy(scores[MASK], torch.tensor([0, 1, 2, 1]))
    torch.testing.assert_close(objective.loss(scores, targets, MASK), expected)
    predictions = objective.predict(scores, MASK)
    assert [len(prediction.labels) for prediction in predictions] == [3, 1]
    assert predictions[0].labels == tuple(LABELS[i] for i in scores[0].argmax(1))
    assert predictions[1].probabilities.shape == (1, 3)


def test_tags_together_are_a_mean_by_word():
    objective, scores = SequenceLabels(LABELS), scores_of_words()
    targets = objective.targets([("a", "b", "c"), ("b",)])
    expected = -objective.crf.log_likelihood(scores, targets.clamp(min=0), MASK).sum() / 4
    torch.testing.assert_close(objective.loss(scores, targets, MASK), expected)
    predictions = objective.predict(scores, MASK)
    assert predictions[0].labels == tuple(LABELS[i] for i in objective.crf.decode(scores, MASK)[0])
    np.testing.assert_allclose(predictions[0].probabilities.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", [TokenLabels, SequenceLabels])
def test_what_training_did_not_know_has_no_loss(kind):
    """One word, or with a CRF, whose sequences are whole, the sentence."""
    objective, scores = kind(LABELS), scores_of_words()
    with_unknown = objective.loss(scores, objective.targets([("a", "b", "c"), ("new",)]), MASK)
    alone = objective.loss(scores[:1], objective.targets([("a", "b", "c")]), MASK[:1])
    torch.testing.assert_close(with_unknown, alone)
    assert objective.loss(scores, objective.targets([("new",) * 3, ("new",)]), MASK) == 0
    assert SingleLabel(LABELS).loss(scores[0], torch.full((3,), IGNORE_INDEX), MASK) == 0


def test_forbidden_transitions_are_not_predicted():
    objective = SequenceLabels(("B-x", "I-x", "O"), "BIO")
    scores = torch.tensor([[[9.0, 0, 0], [0, 0, 9.0], [0, 9.0, 0]], [[0, 9.0, 0], [0, 0, 0], [0, 0, 0]]])
    first, second = objective.predict(scores, MASK)
    assert ("O", "I-x") not in list(pairwise(first.labels))
    assert second.labels != ("I-x",)
    assert second.probabilities[0, 1] < 1e-3
