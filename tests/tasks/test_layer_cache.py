import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.data import random_sentences
from helpers.models import small_config

from elmolite.data.indexers import WordIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.nn.bilm import BiLM
from elmolite.tasks import layer_cache
from elmolite.tasks.layer_cache import LayerCache, default_folder

SENTENCES = [*random_sentences(40), [], ["Hi"], ["naïve", "\ud800", "x" * 60], ["Hi"]]


@pytest.fixture
def elmo(bilm):
    return ELMo(bilm, SentenceTokenizer.english())


@pytest.fixture
def computed(monkeypatch):
    """Number of sentences of each entry that was computed."""
    found = []
    compute = layer_cache._compute
    monkeypatch.setattr(layer_cache, "_compute", lambda e, s: found.append(len(s)) or compute(e, s))
    return found


def cache_of(elmo, tmp_path, sentences=SENTENCES, **options):
    return LayerCache(elmo, sentences, tmp_path / "cache", **{"show_progress": False, **options})


def entries(tmp_path):
    return list((tmp_path / "cache").iterdir())


def test_layers_of_the_same_batches_are_bit_identical(elmo, tmp_path):
    distinct = sorted({tuple(sentence) for sentence in SENTENCES}, key=lambda sentence: (-len(sentence), sentence))
    layers, mask = cache_of(elmo, tmp_path).batch([SENTENCES.index(list(sentence)) for sentence in distinct])
    for row, expected in enumerate(elmo.embed(distinct)):
        np.testing.assert_array_equal(layers[:, row, mask[row]].numpy(), expected)


@pytest.mark.parametrize("chosen", [[3], [5, 0, 5], [40], [40, 1], []])
def test_a_batch_is_padded_as_by_the_model(elmo, tmp_path, chosen):
    layers, mask = cache_of(elmo, tmp_path).batch(chosen)
    expected, expected_mask = elmo(elmo.to_ids([SENTENCES[i] for i in chosen]))
    torch.testing.assert_close(layers, expected, rtol=2e-6, atol=2e-6)
    assert torch.equal(mask, expected_mask)
    assert (layers[:, ~mask] == 0).all()
    assert layers.is_contiguous()


def test_order_and_repetitions_make_no_other_entry(elmo, tmp_path, computed):
    first, _ = cache_of(elmo, tmp_path).batch([0, 1])
    again, _ = cache_of(elmo, tmp_path, [SENTENCES[1], *SENTENCES[::-1]]).batch([-1, 0])
    assert torch.equal(first, again)
    assert computed == [len({tuple(s) for s in SENTENCES})]


def test_everything_that_the_layers_depend_on_makes_another_entry(elmo, tmp_path, computed):
    for sentences in (SENTENCES, [["a", "b"]], [["a", "b "]], [["a b"]], [["a"], ["b"]]):
        cache_of(elmo, tmp_path, sentences)
    cache_of(elmo, tmp_path, dtype="float16")
    with torch.no_grad():
        next(elmo.parameters())[0, 0] += 1e-3
    cache_of(elmo, tmp_path)
    cache_of(elmo.bfloat16(), tmp_path)
    torch.manual_seed(3)
    bilm = BiLM(small_config(input="words"), n_ids=4, padding=0)
    for word in ("a", "b"):  # other words of a model that reads words
        indexer = WordIndexer(Vocabulary(["<S>", "</S>", "<UNK>", word], [1] * 4))
        cache_of(ELMo(bilm, SentenceTokenizer.whitespace(), indexer), tmp_path, [["a"]])
    assert len(computed) == len(entries(tmp_path)) == 10


def test_float16_takes_half_the_space(elmo, tmp_path):
    single, half = (cache_of(elmo, tmp_path, dtype=dtype) for dtype in ("float32", "float16"))
    (a, _), (b, _) = single.batch([0, 7]), half.batch([0, 7])
    assert b.dtype == torch.float32
    assert torch.equal(b, a.half().float())
    sizes = [(cache.path / "layers.npy").stat().st_size - 128 for cache in (single, half)]
    assert sizes[0] == 2 * sizes[1]
    with torch.no_grad():
        for parameter in elmo.bilm.token_encoder.parameters():
            parameter.mul_(1e3)
    with pytest.raises(InputError, match=r"float16: .* overflow"):
        cache_of(elmo, tmp_path, dtype="float16")


def test_a_damaged_entry_is_computed_again(elmo, tmp_path, computed, caplog):
    cache = cache_of(elmo, tmp_path)
    expected, _ = cache.batch([0])
    content = bytearray((cache.path / "layers.npy").read_bytes())
    content[-9] ^= 1
    (cache.path / "layers.npy").write_bytes(content)
    assert torch.equal(cache_of(elmo, tmp_path).batch([0])[0], expected)
    assert "layers.npy is damaged" in caplog.text
    assert len(computed) == 2


def test_too_little_space_is_an_error_before_computing(elmo, tmp_path, monkeypatch, computed):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1024}))
    with pytest.raises(InputError, match=r"layers of \d+ words: .* has 1\.02kB free: .*`cache=False`"):
        cache_of(elmo, tmp_path)
    assert not computed


def test_a_trained_model_is_refused(elmo, tmp_path):
    with pytest.raises(InputError, match="that is trained cannot be cached"):
        cache_of(elmo.unfreeze(), tmp_path)


def test_the_default_folder_follows_xdg(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_folder() == Path("/caches/elmolite")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_folder() == Path("/home/me/.cache/elmolite")
