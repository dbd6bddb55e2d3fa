import numpy as np
import pytest
import torch
from conftest import random_sentences
from small_tasks import HEADS, SMALL
from torch import nn

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.tasks.config import InputConfig
from elmolite.tasks.heads import ClassifyConfig, EntailConfig, TagConfig
from elmolite.tasks.model import SentenceBatch, build
from elmolite.tasks.objectives import MultiLabel, SequenceLabels, SingleLabel, TokenLabels
from elmolite.tasks.specs import TaskDescription

SENTENCES = random_sentences(6)
INPUTS = InputConfig(dropout=0.5)


@pytest.fixture
def elmo(bilm):
    return ELMo(bilm, SentenceTokenizer.whitespace())


def describe(task, head=None, *, labels=("a", "b"), inputs=INPUTS, **options):
    return TaskDescription(task=task, labels=labels, inputs=inputs, head=head or HEADS[task], **options)


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
        (describe("tag", labels=("B-X", "I-X", "O"), scheme="BIO"), SequenceLabels),
        (describe("tag", TagConfig(crf="never"), labels=("B-X", "I-X", "O"), scheme="BIO"), TokenLabels),
        (describe("tag", TagConfig(crf="always")), SequenceLabels),
    ],
)
def test_the_task_and_its_labels_choose_how_scores_are_read(elmo, description, kind):
    objective = build(description, elmo, None).objective
    assert type(objective) is kind
    assert objective.labels == description.labels


def test_decoding_takes_no_transition_that_the_scheme_forbids(elmo):
    model = build(describe("tag", labels=("B-X", "I-X", "O"), scheme="BIO"), elmo, None)
    with torch.no_grad():
        model.head.linear.weight.zero_()
        model.head.linear.bias.copy_(torch.tensor([0.0, 20.0, 5.0]))
    for prediction in model.predict([batch_of(elmo)]):
        assert prediction.labels == ("B-X", *["I-X"] * (len(prediction.labels) - 1)) or prediction.labels == ("O",)


def test_layers_that_are_given_are_read_as_those_that_are_computed(elmo):
    model, batch = build(describe("classify"), elmo, None).eval(), batch_of(elmo)
    layers, mask = elmo(batch.ids)
    torch.testing.assert_close(model([SentenceBatch(mask, layers=layers)]), model([batch]), rtol=0, atol=0)


def test_prediction_is_without_dropout_and_leaves_the_mode(elmo):
    model, batch = build(describe("classify", ClassifyConfig(dropout=0.5)), elmo, None).train(), batch_of(elmo)
    first, again = model.predict([batch]), model.predict([batch])
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
    assert model.training
    assert model.head.training
    assert not elmo.bilm.training
    assert not torch.equal(model([batch]), model([batch]))


def test_a_head_of_one_s_own_is_made_for_its_input_and_labels(elmo):
    made = []

    class Mean(nn.Linear):
        def forward(self, words):
            return super().forward(words.vectors.mean(dim=1))

    description = TaskDescription(task="classify", labels=("a", "b", "c"), inputs=INPUTS, head=None)
    model = build(description, elmo, None, make_head=lambda *sizes: made.append(sizes) or Mean(*sizes))
    assert made == [(elmo.size, 3)]
    assert model([batch_of(elmo)]).shape == (len(SENTENCES), 3)


def test_a_linear_pair_head_has_no_output_to_stand_beside(elmo):
    inputs = InputConfig(mixes_at_output=True)
    with pytest.raises(InputError, match=r"input\.mixes_at_output: needs a head with"):
        build(describe("entail", EntailConfig(kind="linear"), inputs=inputs), elmo, None)
    assert build(describe("entail", inputs=inputs), elmo, None).inputs.output_mix is not None


@pytest.mark.parametrize("kind", ["lstm", "cnn", "biattentive", "linear"])
def test_a_mix_at_the_output_fits_every_classifier(elmo, kind):
    description = describe("classify", ClassifyConfig(kind=kind, **SMALL), inputs=InputConfig(mixes_at_output=True))
    assert build(description, elmo, None)([batch_of(elmo)]).isfinite().all()


def test_all_of_a_batch_goes_to_a_device(elmo):
    batch = batch_of(elmo)._replace(layers=torch.zeros(1), static_ids=torch.zeros(1)).to(torch.device("meta"))
    assert {part.device.type for part in (batch.mask, batch.layers, batch.static_ids)} == {"meta"}
    assert batch_of(elmo).to(torch.device("cpu")).layers is None
