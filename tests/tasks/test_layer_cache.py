import pickle
import sys

import numpy as np
import pytest
import torch
from conftest import random_sentences, small_config
from helpers.models import make_bilm

from elmolite.data.indexers import WordIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.nn.bilm import BiLM
from elmolite.tasks import layer_cache
from elmolite.tasks.layer_cache import LayerCache

SENTENCES = [*random_sentences(40), [], ["Hi"], ["naïve", "\ud800", "x" * 60], ["Hi"]]


@pytest.fixture
def elmo(bilm):
    return ELMo(bilm, SentenceTokenizer.english())


@pytest.fixture
def made(monkeypatch):
    """Which entries have been computed: of how many sentences each."""
    found = []
    compute = layer_cache._compute
    monkeypatch.setattr(layer_cache, "_compute", lambda e, s: found.append(len(s)) or compute(e, s))
    return found


def cache_of(elmo, tmp_path, sentences=SENTENCES, **options):
    return LayerCache.of(elmo, sentences, tmp_path / "cache", **{"show_progress": False, **options})


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").iterdir())


def test_layers_are_those_of_the_model(elmo, tmp_path):
    cache = cache_of(elmo, tmp_path)
    assert len(cache) == len(SENTENCES)
    layers, mask = cache.batch(range(len(SENTENCES)))
    for row, expected in enumerate(elmo.embed(SENTENCES)):
        np.testing.assert_allclose(layers[:, row, mask[row]].numpy(), expected, rtol=2e-6, atol=2e-6)


def test_of_the_same_batches_they_are_the_same_bits(elmo, tmp_path):
    distinct = sorted({tuple(sentence) for sentence in SENTENCES}, key=lambda sentence: (-len(sentence), sentence))
    layers, mask = cache_of(elmo, tmp_path).batch([SENTENCES.index(list(sentence)) for sentence in distinct])
    for row, expected in enumerate(elmo.embed(distinct)):
        np.testing.assert_array_equal(layers[:, row, mask[row]].numpy(), expected)


@pytest.mark.parametrize("chosen", [[3], [5, 0, 5], [40], [40, 1], []])
def test_a_batch_is_as_the_model_gives_it(elmo, tmp_path, chosen):
    layers, mask = cache_of(elmo, tmp_path).batch(chosen)
    expected, expected_mask = elmo(elmo.to_ids([SENTENCES[i] for i in chosen]))
    torch.testing.assert_close(layers, expected, rtol=2e-6, atol=2e-6)
    assert torch.equal(mask, expected_mask)
    assert (layers[:, ~mask] == 0).all()
    assert layers.is_contiguous()


@pytest.mark.parametrize("n_layers", [1, 3])
def test_models_of_other_depths(tmp_path, n_layers):
    elmo = ELMo(make_bilm(small_config(n_layers=n_layers)).eval(), SentenceTokenizer.english())
    layers, mask = cache_of(elmo, tmp_path).batch([2])
    np.testing.assert_allclose(layers[:, 0, mask[0]], elmo.embed([SENTENCES[2]])[0], rtol=2e-6, atol=2e-6)


def test_computed_once_whatever_the_order_and_the_repeats(elmo, tmp_path, made):
    first, _ = cache_of(elmo, tmp_path).batch([0, 1])
    again, _ = cache_of(elmo, tmp_path, [SENTENCES[1], *SENTENCES[::-1]]).batch([-1, 0])
    assert torch.equal(first, again)
    assert made == [len({tuple(s) for s in SENTENCES})]
    assert len(names(tmp_path)) == 1


def test_strings_are_cut_as_the_model_cuts_them(elmo, tmp_path, made):
    cache_of(elmo, tmp_path, ["Don't stop."])
    cache_of(elmo, tmp_path, [["Do", "n't", "stop", "."]])
    assert made == [1]


def test_whatever_the_layers_depend_on_makes_another_entry(elmo, tmp_path, made):
    cache_of(elmo, tmp_path)
    cache_of(elmo, tmp_path, [["a", "b"]])
    cache_of(elmo, tmp_path, [["a", "b "]])
    cache_of(elmo, tmp_path, [["a b"]])
    cache_of(elmo, tmp_path, [["a"], ["b"]])
    cache_of(elmo, tmp_path, precision="float16")
    with torch.no_grad():
        next(elmo.parameters())[0, 0] += 1e-3
    cache_of(elmo, tmp_path)
    cache_of(elmo.bfloat16(), tmp_path)
    assert len(made) == len(names(tmp_path)) == 8


def test_other_words_of_the_model_make_another_entry(tmp_path, made):
    torch.manual_seed(3)
    bilm = BiLM(small_config(input="words"), n_ids=4, padding=0)
    for word in ("a", "b"):
        indexer = WordIndexer(Vocabulary(["<S>", "</S>", "<UNK>", word], [1] * 4))
        cache_of(ELMo(bilm, SentenceTokenizer.whitespace(), indexer), tmp_path, [["a"]])
    assert len(made) == 2


def test_half_precision_takes_half_the_room(elmo, tmp_path):
    whole, half = (cache_of(elmo, tmp_path, precision=precision) for precision in ("float32", "float16"))
    (a, _), (b, _) = whole.batch([0, 7]), half.batch([0, 7])
    assert b.dtype == torch.float32
    assert torch.equal(b, a.half().float())
    sizes = [(cache.path / "layers.npy").stat().st_size - 128 for cache in (whole, half)]
    assert sizes[0] == 2 * sizes[1]


def test_vectors_too_large_for_half_precision(elmo, tmp_path):
    with torch.no_grad():
        for parameter in elmo.bilm.token_encoder.parameters():
            parameter.mul_(1e3)
    with pytest.raises(InputError, match=r"float16.*too large"):
        cache_of(elmo, tmp_path, precision="float16")
    assert names(tmp_path) == []


def test_interrupted_there_is_nothing_and_the_next_one_makes_it(elmo, tmp_path, monkeypatch, made):
    compute = layer_cache._compute

    def interrupted(elmo, sentences):
        yield next(compute(elmo, sentences))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(layer_cache, "_compute", interrupted)
        cache_of(elmo, tmp_path)
    assert names(tmp_path) == []
    cache_of(elmo, tmp_path)
    assert len(names(tmp_path)) == 1


def test_made_by_another_process_at_the_same_time(elmo, tmp_path, monkeypatch):
    compute = layer_cache._compute
    quicker = []

    def with_another(elmo, sentences):
        monkeypatch.setattr(layer_cache, "_compute", compute)
        quicker.append(cache_of(elmo, tmp_path))
        yield from compute(elmo, sentences)

    monkeypatch.setattr(layer_cache, "_compute", with_another)
    cache = cache_of(elmo, tmp_path)
    assert torch.equal(cache.batch([0, 1])[0], quicker[0].batch([0, 1])[0])
    assert len(names(tmp_path)) == 1


def test_damaged_it_is_made_again(elmo, tmp_path, made, capsys):
    cache = cache_of(elmo, tmp_path)
    expected, _ = cache.batch([0])
    content = bytearray((cache.path / "layers.npy").read_bytes())
    content[-9] ^= 1
    (cache.path / "layers.npy").write_bytes(content)
    again = cache_of(elmo, tmp_path)
    assert "layers.npy is damaged" in capsys.readouterr().err
    assert len(made) == 2
    assert torch.equal(again.batch([0])[0], expected)


def test_old_entries_make_room_but_none_in_use(elmo, tmp_path):
    one, other, third = (random_sentences(50, seed=seed) for seed in (1, 2, 3))
    room = cache_of(elmo, tmp_path, one)
    size = sum(path.stat().st_size for path in room.path.iterdir())
    with pytest.raises(InputError, match=r"layers of \d+ words: .* beside what this run uses"):
        cache_of(elmo, tmp_path, other, limit_bytes=int(1.5 * size))
    path = room.path
    del room
    kept = cache_of(elmo, tmp_path, other, limit_bytes=int(1.5 * size))
    assert not path.exists()
    cache_of(elmo, tmp_path, third, limit_bytes=int(2.5 * size))
    assert kept.path.exists()
    assert len(names(tmp_path)) == 2


def test_over_the_limit_nothing_is_computed(elmo, tmp_path, made):
    with pytest.raises(InputError, match=r"layers of \d+ words: .* more than the 1\.0 KiB .*--cache-limit"):
        cache_of(elmo, tmp_path, limit_bytes=1024)
    assert made == []
    assert not (tmp_path / "cache").exists()


def test_the_size_is_said_first(elmo, tmp_path, capsys):
    cache_of(elmo, tmp_path, [["a", "b"], ["a", "b"], ["c"]], show_progress=True)
    assert f"layers of 3 words: 0.9 KiB in {tmp_path / 'cache'}" in capsys.readouterr().err


def test_what_goes_to_workers_is_the_path(elmo, tmp_path):
    cache = cache_of(elmo, tmp_path)
    expected, _ = cache.batch([4])
    travels = pickle.dumps(cache)
    assert len(travels) < 3000
    assert torch.equal(pickle.loads(travels).batch([4])[0], expected)
    again = pickle.loads(travels)
    (cache.path / "layers.npy").unlink()
    with pytest.raises(InputError, match="no longer there"):
        again.batch([4])
    if sys.platform != "win32":
        assert torch.equal(cache.batch([4])[0], expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, p: cache_of(e.unfreeze(), p), "being trained"),
        (lambda e, p: cache_of(e, p, precision="float8"), r"precision: unknown 'float8'; did you mean 'float"),
        (lambda e, p: cache_of(e, p, "a bare string"), "one string was given where a list"),
        (lambda e, p: cache_of(e, p, [["a"], [3]]), "sentence 1: tokens must be strings"),
    ],
)
def test_wrong_arguments_are_explained(elmo, tmp_path, call, message):
    with pytest.raises(InputError, match=message):
        call(elmo, tmp_path)
