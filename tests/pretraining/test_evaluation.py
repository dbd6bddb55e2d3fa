import pytest
from conftest import make_corpus, random_sentences, small_config
from helpers.models import make_bilm

from elmolite.checkpoint import Checkpoint
from elmolite.data.vocab import UNKNOWN_ID
from elmolite.errors import InputError
from elmolite.nn.softmax import FullSoftmax
from elmolite.pretraining.evaluation import evaluate_text
from elmolite.pretraining.perplexity import evaluate


def test_of_raw_text_equals_that_of_the_corpus(tmp_path, model_folder, corpus):
    checkpoint = Checkpoint.from_pretrained(model_folder)
    other = make_corpus(
        tmp_path, [*random_sentences(50, seed=9), ["unheard", "of"]], vocabulary=corpus.vocabulary, hold_out=False
    )
    result = evaluate_text(model_folder, [str(tmp_path / "text.txt")], show_progress=False)
    for by_sentence, part in ((False, result.running_text), (True, result.by_sentence)):
        assert part == evaluate(checkpoint.bilm, checkpoint.softmax, other, other.train, by_sentence=by_sentence)
    unknown = sum(other.vocab_ids[form] == UNKNOWN_ID for form in other.train.tokens)
    assert unknown == 2
    assert part.unknown_share == pytest.approx(unknown / part.n_targets)


@pytest.mark.parametrize("model_input", ["characters", "words"])
def test_text_is_read_with_the_characters_of_the_model(tmp_path, model_input):
    corpus = make_corpus(tmp_path / "a", random_sentences(60), hold_out=False, characters="unicode")
    indexer = corpus.indexer(model_input)
    config = small_config(input=model_input)
    softmax = FullSoftmax(vocabulary_size=len(corpus.vocabulary), projection_size=config.projection_size)
    checkpoint = Checkpoint(make_bilm(config, indexer), corpus.tokenizer, indexer, softmax, corpus.vocabulary)
    checkpoint.save_pretrained(tmp_path / "model")
    result = evaluate_text(tmp_path / "model", [str(tmp_path / "a" / "text.txt")], show_progress=False)
    assert result.by_sentence == evaluate(checkpoint.bilm, softmax, corpus, corpus.train, by_sentence=True)


def test_a_model_without_softmax_cannot_be_evaluated(tmp_path, corpus, bilm):
    Checkpoint(bilm, corpus.tokenizer, corpus.characters).save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match=r"softmax\.safetensors"):
        evaluate_text(tmp_path / "model", ["x"])
