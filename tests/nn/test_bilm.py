import pytest
import torch
from helpers.data import make_corpus, random_sentences
from helpers.models import make_bilm, small_config

from elmolite.data.bptt import BPTTBatches
from elmolite.data.indexers import ByteIndexer
from elmolite.errors import InputError
from elmolite.nn.config import PRESETS
from elmolite.pretraining.evaluation import run_batch
from elmolite.utils.torch import without_weights


@pytest.mark.parametrize(
    ("name", "millions"), [("tiny", 0.8), ("mini", 3.0), ("small", 13.6), ("medium", 28.0), ("original", 93.6)]
)
def test_presets_have_the_published_numbers_of_parameters(name, millions):
    with without_weights():
        assert round(make_bilm(PRESETS[name]()).n_parameters / 1e6, 1) == millions


@pytest.mark.parametrize(
    "changes", [{"cell_size": 0}, {"filters": [(0, 3)]}, {"dropout": 1.0}, {"cell": "gru", "recurrent_dropout": 0.1}]
)
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        small_config(**changes)


def hidden_states(bilm, corpus, n_windows, window=5):
    """Run one stream through several windows with carried state: top layers (positions, P) of both directions."""
    streams = BPTTBatches(corpus, corpus.train, batch_size=1, bptt_length=window)
    state = bilm.zero_state(1)
    forward, backward = [], []
    for step in range(n_windows):
        f, b, state = run_batch(bilm, streams.batch(step), state)
        forward.append(f)
        backward.append(b)
    return torch.cat(forward).detach(), torch.cat(backward).detach()


@pytest.mark.parametrize("at", [3, 9, 22, 40])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_no_prediction_sees_its_target_or_what_lies_beyond(tmp_path, bilm, direction, at):
    """Change the target of a position and all that the direction has yet to read, through twelve training windows."""
    sentences = random_sentences(30, seed=4)
    index = 0  # of the sentence that holds the position: n tokens take n + 1 positions
    offset = at
    while offset > len(sentences[index]):
        offset -= len(sentences[index]) + 1
        index += 1
    n = len(sentences[index])
    unseen = range(offset, n) if direction == "forward" else range(n - offset)
    changed = [list(sentence) for sentence in sentences]
    for token in unseen:
        changed[index][token] += "x"
    for later in changed[index + 1 :]:
        later[:] = [token + "x" for token in later]

    which = ("forward", "backward").index(direction)
    before, after = (
        hidden_states(bilm, make_corpus(tmp_path / name, text, hold_out=False), n_windows=12)[which]
        for name, text in (("before", sentences), ("after", changed))
    )
    same = (before - after).abs().amax(dim=1) < 1e-6
    assert same[: at + 1].all()
    assert not same[at + 2 :].all()


def test_dropped_embeddings_are_whole_words(bilm):
    bilm.config.embedding_dropout = 0.5
    rows = torch.from_numpy(ByteIndexer().rows([f"word{i}" for i in range(60)]))
    inputs = torch.arange(60)
    layers, _, _ = bilm.train()(rows, inputs, inputs, [60], bilm.zero_state(60))
    whole, _, _ = bilm.eval()(rows, inputs, inputs, [60], bilm.zero_state(60))
    kept = layers[0].abs().sum(dim=1) > 0
    assert 15 < kept.sum() < 45
    torch.testing.assert_close(layers[0][kept], 2 * whole[0][kept])
