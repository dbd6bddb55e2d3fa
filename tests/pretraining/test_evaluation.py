import math

import pytest
import torch
from helpers.data import make_corpus, random_sentences
from helpers.models import make_bilm, small_config

from elmolite.checkpoint import Checkpoint
from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Split
from elmolite.data.vocab import BEGIN_SENTENCE_ID, END_SENTENCE_ID, UNKNOWN_ID
from elmolite.nn.softmax import FullSoftmax
from elmolite.pretraining.evaluation import evaluate, evaluate_text, run_batch, unigram_perplexity


@pytest.fixture
def softmax(corpus, bilm):
    torch.manual_seed(3)
    return FullSoftmax(vocabulary_size=len(corpus.vocabulary), projection_size=bilm.config.projection_size)


def test_the_perplexity_of_a_uniform_model_is_the_vocabulary_size(corpus, bilm, softmax):
    torch.nn.init.zeros_(softmax.weight)
    result = evaluate(bilm, softmax, corpus, corpus.train, by_sentence=False)
    assert [result.forward, result.backward] == pytest.approx([len(corpus.vocabulary)] * 2, rel=1e-5)


def test_unigram_perplexity_is_that_of_a_model_of_the_word_frequencies(corpus, bilm, softmax):
    torch.nn.init.zeros_(softmax.weight)
    counts = torch.tensor(corpus.vocabulary.counts, dtype=torch.float64)
    for direction, never in (("forward", BEGIN_SENTENCE_ID), ("backward", END_SENTENCE_ID)):
        with torch.no_grad():
            softmax.bias.copy_(counts.index_fill(0, torch.tensor(never), 0).log().clamp(min=-1e4))
        result = evaluate(bilm, softmax, corpus, corpus.train, by_sentence=False)
        assert getattr(result, direction) == pytest.approx(unigram_perplexity(corpus, corpus.train), rel=1e-4)


def test_by_sentence_equals_each_sentence_alone(corpus, bilm, softmax):
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


def test_evaluation_over_running_text(corpus, bilm, softmax):
    """The state is carried, autocast is off, every target counted, and training mode stays."""
    bilm.train()
    running, alone = (evaluate(bilm, softmax, corpus, corpus.train, by_sentence=b) for b in (False, True))
    assert bilm.training
    assert running.forward != pytest.approx(alone.forward, rel=1e-4)
    assert running.average == pytest.approx(math.sqrt(running.forward * running.backward), rel=1e-6)
    assert running.n_targets == alone.n_targets == corpus.train.n_tokens + corpus.train.n_sentences
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluate(bilm, softmax, corpus, corpus.train, by_sentence=False) == running


def test_raw_text_gives_the_perplexity_of_its_corpus(tmp_path, model_folder, corpus):
    checkpoint = Checkpoint.from_pretrained(model_folder)
    other = make_corpus(
        tmp_path, [*random_sentences(50, seed=9), ["unheard", "of"]], vocabulary=corpus.vocabulary, hold_out=False
    )
    result = evaluate_text(model_folder, [str(tmp_path / "text.txt")], show_progress=False)
    for by_sentence, part in ((False, result.running_text), (True, result.by_sentence)):
        assert part == evaluate(checkpoint.bilm, checkpoint.softmax, other, other.train, by_sentence=by_sentence)
    unknown = sum(other.vocab_ids[form] == UNKNOWN_ID for form in other.train.tokens)
    assert unknown == 2
    assert part.oov_rate == pytest.approx(unknown / part.n_targets)
    assert f"<td>{result.running_text.average:.2f}</td>" in result._repr_html_()
    assert f"{part.average:.2f} sentence by sentence" in repr(result)


@pytest.mark.parametrize("model_input", ["characters", "words"])
def test_text_is_indexed_like_the_training_text(tmp_path, model_input):
    corpus = make_corpus(tmp_path / "a", random_sentences(60), hold_out=False, characters="unicode")
    indexer = corpus.indexer(model_input)
    config = small_config(input=model_input)
    softmax = FullSoftmax(vocabulary_size=len(corpus.vocabulary), projection_size=config.projection_size)
    checkpoint = Checkpoint(make_bilm(config, indexer), corpus.tokenizer, indexer, softmax, corpus.vocabulary)
    checkpoint.save_pretrained(tmp_path / "model")
    result = evaluate_text(tmp_path / "model", [str(tmp_path / "a" / "text.txt")], show_progress=False)
    assert result.by_sentence == evaluate(checkpoint.bilm, softmax, corpus, corpus.train, by_sentence=True)
