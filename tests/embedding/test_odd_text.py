"""Embedding returns finite vectors for any token or line."""

import numpy as np
import pytest
import torch
from helpers.models import make_bilm, small_config
from hypothesis import example, given, strategies as st

from elmolite.data.indexers import ByteIndexer, ManyLangsIndexer, UnicodeIndexer, WordIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.output import embed_file

MARKS = ["<bos>", "<eos>", "<oov>", "<pad>", "<bow>", "<eow>"]
INDEXERS = {
    "bytes": ByteIndexer(),
    "unicode": UnicodeIndexer("abc東\u0301"),
    "words": WordIndexer(Vocabulary(["<S>", "</S>", "<UNK>", "a"], [1] * 4)),
    "manylangs": ManyLangsIndexer(
        {c: i for i, c in enumerate([*MARKS, "a", "\u0301"])}, {w: i for i, w in enumerate(MARKS)}
    ),
}
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
ODD = [
    *("", " ", "\0", "\ud800", "a\udc80b", "\u202eright", "e\u0301\u0301\u0301", FAMILY, "שלום"),
    *("\u3000", "\n", "\r\n", "\u2028", "\ufeff", "\x85\x1c", "x" * 10_000, "東" * 4_000),
    *("<S>", "</S>", "<bos>", "<pad>"),
]
TOKENS = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=()), max_size=60))


@pytest.fixture(scope="module", params=INDEXERS)
def elmo(request):
    torch.manual_seed(0)
    indexer = INDEXERS[request.param]
    changes = {"words": {"input": "words"}, "manylangs": {"word_embedding_size": 4}}.get(request.param, {})
    return ELMo(make_bilm(small_config(**changes), indexer).eval(), SentenceTokenizer.english(), indexer)


@pytest.fixture(scope="module")
def model(elmo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "model"
    elmo.save_pretrained(folder)
    return folder


@given(st.lists(st.lists(TOKENS, max_size=8), max_size=5))
@example([ODD, [], ["\ud800"]])
def test_tokens(elmo, sentences):
    found = elmo.embed(sentences)
    for sentence, layers in zip(sentences, found, strict=True):
        assert layers.shape == (elmo.n_layers, len(sentence), elmo.size)
        assert np.isfinite(layers).all()
        np.testing.assert_allclose(elmo.embed([sentence])[0], layers, rtol=1e-5, atol=1e-5)
    for a, b in zip(elmo.embed_iter(sentences, batch_tokens=4), found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    layers, mask = elmo(elmo.to_ids(sentences))
    assert mask.sum() == sum(map(len, sentences))
    assert layers.isfinite().all()
    carried = elmo.embed(sentences, carry_state=True)
    elmo.reset_state()
    assert [each.shape for each in carried] == [each.shape for each in found]


@given(st.lists(TOKENS, max_size=6).map(" ".join))
@example("".join(ODD))
def test_strings(elmo, text):
    (found,) = elmo.embed_aligned([text])
    assert found.vectors.shape == (elmo.n_layers, len(found.tokens), elmo.size)
    for token, (begin, end) in zip(found.tokens, found.offsets, strict=True):
        assert token.encode("utf-8", "replace") == text[begin:end].encode("utf-8", "replace")
        assert token
    (vector,) = elmo.embed_sentences([text])
    assert np.isfinite(vector).all()
    assert vector.any() == bool(found.tokens)


@given(st.lists(TOKENS.map(lambda token: token.replace("\0", "")), min_size=1, max_size=6))
def test_lines_of_a_file(elmo, model, tmp_path_factory, tokens):
    folder = tmp_path_factory.mktemp("file")
    text = " ".join(tokens).encode("utf-8", "ignore")
    (folder / "text.txt").write_bytes(text + b"\nthe end\n")
    written = embed_file(model, str(folder / "text.txt"), folder / "v.npz", show_progress=False)
    with np.load(folder / "v.npz") as arrays:
        assert written.n_sentences == len(arrays.files)
        assert written.n_tokens == sum(array.shape[1] for array in arrays.values())
        assert all(np.isfinite(array).all() for array in arrays.values())
