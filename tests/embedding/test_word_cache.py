import copy
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from elmolite.embedding.word_cache import WordCache

PADDING = 9


class Encoder(nn.Module):
    """A vector of two numbers: the sum of the ids that are no padding, and their number."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.n_encoded = 0

    def forward(self, rows):
        self.n_encoded += len(rows)
        is_symbol = rows != PADDING
        return torch.stack([(rows * is_symbol).sum(1), is_symbol.sum(1)], dim=1).float() * self.weight


def rows_of(*words, width=None):
    width = width or max(map(len, words))
    return torch.tensor([[*word, *[PADDING] * (width - len(word))] for word in words])


def encode(cache, encoder, rows):
    with torch.no_grad():
        vectors = cache.encode(rows, encoder, padding=PADDING)
        torch.testing.assert_close(vectors, Encoder()(rows) * encoder.weight, rtol=0, atol=0)
    return vectors


def test_a_word_is_encoded_once_however_wide_its_batch():
    cache, encoder = WordCache(), Encoder()
    encode(cache, encoder, rows_of([1, 2], [3]))
    encode(cache, encoder, rows_of([3], [1, 2], [4, 4, 4], width=7))
    assert encoder.n_encoded == 3
    assert (cache.hits, cache.misses, len(cache)) == (2, 3, 3)
    assert cache.hit_rate == 0.4
    assert repr(cache) == "WordCache(3 words, at most 67.1MB, hit rate 40%)"
    again = copy.deepcopy(cache)
    assert (len(again), again.max_bytes) == (0, cache.max_bytes)
    cache.clear()
    assert len(cache) == cache.hits == cache.misses == cache.hit_rate == 0
    encode(cache, encoder, rows_of([1], [2], [1], [3]))  # a repeated row
    assert len(cache) == 3


def test_its_size_is_bounded_and_the_words_used_last_stay():
    cache, encoder = WordCache(max_bytes=3 * 2 * 4), Encoder()
    encode(cache, encoder, rows_of([1], [2], [3]))
    encode(cache, encoder, rows_of([1]))
    encode(cache, encoder, rows_of([4]))  # in the place of 2
    assert (encoder.n_encoded, len(cache)) == (4, 3)
    encode(cache, encoder, rows_of([1], [3], [4]))
    assert encoder.n_encoded == 4
    encode(cache, encoder, rows_of([2]))
    assert encoder.n_encoded == 5


def test_more_words_than_have_room_are_right_and_not_kept():
    cache, encoder = WordCache(max_bytes=3 * 2 * 4), Encoder()
    encode(cache, encoder, rows_of([1], [2]))
    encode(cache, encoder, rows_of([5], [1], [6], [5], [2], [7]))
    assert (len(cache), encoder.n_encoded) == (2, 2 + 6)  # no row twice
    encode(cache, encoder, rows_of([1], [2]))
    assert encoder.n_encoded == 2 + 6
    tiny = WordCache(max_bytes=1)
    encode(tiny, encoder, rows_of([1], [2]))
    assert (len(tiny), encoder.n_encoded) == (0, 2 + 6 + 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda encoder: encoder.weight.mul_(2),
        lambda encoder: encoder.load_state_dict({"weight": torch.full((2,), 3.0)}),
        lambda encoder: setattr(encoder, "weight", nn.Parameter(torch.full((2,), 3.0))),
    ],
)
def test_other_weights_give_other_vectors(change):
    cache, encoder = WordCache(), Encoder()
    encode(cache, encoder, rows_of([1], [2]))
    with torch.no_grad():
        change(encoder)
    encode(cache, encoder, rows_of([1], [2]))
    assert encoder.n_encoded == 4


def test_a_word_whose_vector_could_not_be_kept_is_not_there(monkeypatch):
    cache, encoder = WordCache(), Encoder()
    encode(cache, encoder, rows_of([1], [2]))
    with monkeypatch.context() as patched, pytest.raises(RuntimeError), torch.no_grad():
        patched.setattr(encoder, "forward", lambda rows: torch.ones(len(rows), 3))
        cache.encode(rows_of([3]), encoder, padding=PADDING)
    encode(cache, encoder, rows_of([3], [1]))


def test_threads_may_share_it():
    cache, encoder = WordCache(max_bytes=40 * 8), Encoder()
    words = [[i, j] for i in range(1, 9) for j in range(8)]
    wrong = []

    def work(seed):
        rng = random.Random(seed)
        for _ in range(300):
            rows = rows_of(*rng.sample(words, 5))
            with torch.no_grad():
                if not torch.equal(cache.encode(rows, encoder, padding=PADDING), Encoder()(rows)):
                    wrong.append(rows)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert not wrong
