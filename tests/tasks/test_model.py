import numpy as np
import pytest
import torch
from helpers.data import random_sentences
from helpers.small_tasks import HEADS
from torch import nn

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.tasks.config import ClassifyConfig, EntailConfig, InputConfig, TagConfig
from elmolite.tasks.model import SentenceBatch, TaskModel
from elmolite.tasks.objectives import MultiLabel, SequenceLabels, SingleLabel, TokenLabels
from elmolite.tasks.specs import TaskDescription

SENTENCES = random_sentences(6)
INPUTS = InputConfig(dropout=0.5)
BIO = {"labels": ("B-X", "I-X", "O"), "scheme": "BIO"}


@pytest.fixture
def elmo(bilm):
    return ELMo(bilm, SentenceTokenizer.whitespace())


def describe(task, head=None, *, labels=("a", "b"), inputs=INPUTS, **options):
    return TaskDescription(task, labels, inputs, head or HEADS[task], **options)


def batch_of(elmo):
    ids = elmo.to_ids(SENTENCES)
    mask = torch.arange(ids.tokens.shape[1]) < ids.lengths[:, None]
    return SentenceBatch(mask, ids=ids)


@pytest.mark.parametrize(
    ("description", "kind"),
    [
        (describe("classify"), SingleLabel),
        (describe("classify", is_multi_label=True), MultiLabel),
        (describe("entail"), SingleLabel),
        (describe("tag"), TokenLabels),
        (describe("tag", **BIO), SequenceLabels),
        (describe("tag", TagConfig(crf="never"), **BIO), TokenLabels),
        (describe("tag", TagConfig(crf="always")), SequenceLabels),
    ],
)
def test_the_task_and_its_labels_determine_the_objective(elmo, description, kind):
    objective = TaskModel.build(description, elmo, None).objective
    assert type(objective) is kind
    assert objective.labels == description.labels


def test_prediction_is_without_dropout_and_restores_the_mode(elmo):
    model = TaskModel.build(describe("classify", ClassifyConfig(dropout=0.5)), elmo, None).train()
    batch = batch_of(elmo)
    for a, b in zip(model.predict([batch]), model.predict([batch]), strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
    assert model.head.training
    assert not elmo.bilm.training
    assert not torch.equal(model([batch]), model([batch]))
    elmo.unfreeze()
    assert model.train().elmo.bilm.training


def test_a_linear_pair_head_takes_no_output_mix(elmo):
    inputs = InputConfig(output_mix=True)
    with pytest.raises(InputError, match=r"input\.output_mix: needs a head with an encoder"):
        TaskModel.build(describe("entail", EntailConfig(kind="linear"), inputs=inputs), elmo, None)
    assert TaskModel.build(describe("entail", inputs=inputs), elmo, None).inputs.output_mix is not None


class Constant(nn.Module):
    """Scores of one shape for any input."""

    def __init__(self, *shape):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(shape))

    def forward(self, features):
        return self.scores


@pytest.mark.parametrize(
    ("task", "head", "message"),
    [
        ("classify", lambda size, n: Constant(3, 5), r"must return scores of shape \(6, 2\), got \(3, 5\)"),
        ("tag", lambda size, n: Constant(6, n), r"must return scores of shape \(6, \d+, 2\), got \(6, 2\)"),
        ("entail", lambda size, n: Constant(6, n), r"failed on a batch \(premise and hypothesis as two arguments\)"),
        ("classify", lambda: Constant(1), "cannot make the custom head: .*the input size and the number of labels"),
    ],
)
def test_a_custom_head_that_does_not_fit_is_explained(elmo, task, head, message):
    description = TaskDescription(task, ("a", "b"), INPUTS, None)
    with pytest.raises(InputError, match=message):
        model = TaskModel.build(description, elmo, None, custom_head=head)
        model.check_head([batch_of(elmo)] * len(description.spec.sentences))
