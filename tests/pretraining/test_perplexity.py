import math

import pytest
import torch

from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Split
from elmolite.nn.softmax import FullSoftmax
from elmolite.pretraining.perplexity import evaluate, run_batch


@pytest.fixture
def softmax(corpus, bilm):
    torch.manual_seed(3)
    return FullSoftmax(vocabulary_size=len(corpus.vocabulary), projection_size=bilm.config.projection_size)


def test_of_a_uniform_model_is_the_size_of_the_vocabulary(corpus, bilm, softmax):
    torch.nn.init.zeros_(softmax.weight)
    result = evaluate(bilm, softmax, corpus, corpus.train, by_sentence=False)
    for value in (result.forward, result.backward, result.average):
        assert value == pytest.approx(len(corpus.vocabulary), rel=1e-5)


def test_counts_every_target(corpus, bilm, softmax):
    for by_sentence in (False, True):
        result = evaluate(bilm, softmax, corpus, corpus.train, by_sentence=by_sentence)
        assert result.n_targets == corpus.train.n_tokens + corpus.train.n_sentences


def test_by_sentence_is_each_sentence_alone(corpus, bilm, softmax):
    part = corpus.train.first_sentences(300)
    result = evaluate(bilm, softmax, corpus, part, by_sentence=True)
    losses = [0.0, 0.0]
    for s in range(part.n_sentences):
        alone = Split(
            part.tokens[part.sentences[s] : part.sentences[s + 1]],
            part.sentences[s : s + 2] - part.sentences[s],
            part.documents[:2] * 0 + torch.tensor([0, 1]).numpy(),
        )
        batch = BPTTBatches(corpus, alone, 1, bptt_length=len(alone.tokens)).batch(0)
        forward, backward, _ = run_batch(bilm, batch, bilm.zero_state(1))
        losses[0] += softmax.full_loss(forward, batch.forward_targets[0]).item()
        losses[1] += softmax.full_loss(backward, batch.backward_targets[0]).item()
    expected = [math.exp(loss / result.n_targets) for loss in losses]
    assert [result.forward, result.backward] == pytest.approx(expected, rel=1e-5)


def test_average_is_of_the_losses(corpus, bilm, softmax):
    result = evaluate(bilm, softmax, corpus, corpus.train, by_sentence=False)
    assert result.average == pytest.approx(math.sqrt(result.forward * result.backward), rel=1e-6)


def test_carried_state_matters_and_precision_does_not(corpus, bilm, softmax):
    running, alone = (evaluate(bilm, softmax, corpus, corpus.train, by_sentence=b) for b in (False, True))
    assert running.forward != pytest.approx(alone.forward, rel=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluate(bilm, softmax, corpus, corpus.train, by_sentence=False) == running


def test_evaluating_leaves_training_mode_as_it_was(corpus, bilm, softmax):
    bilm.train()
    evaluate(bilm, softmax, corpus, corpus.train.first_sentences(50), by_sentence=False)
    assert bilm.training
