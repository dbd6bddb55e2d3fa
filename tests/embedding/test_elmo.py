import copy
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from helpers.data import random_sentences
from helpers.models import assert_close, make_bilm, small_config
from torch.utils.data import DataLoader

from elmolite.data.indexers import ByteIndexer, UnicodeIndexer, WordIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.word_cache import WordCache
from elmolite.errors import InputError
from elmolite.nn.config import original
from elmolite.nn.lstm.reference import State, Weights, lstm_reference
from elmolite.nn.recurrent import LSTMLayer
from elmolite.utils.torch import without_weights

READERS = {
    "bytes": (ByteIndexer(), "characters"),
    "unicode": (UnicodeIndexer("Tehcilrnpaïv東"), "characters"),
    "words": (WordIndexer(Vocabulary(["<S>", "</S>", "<UNK>", "The", "Hi", "."], [1] * 6)), "words"),
}

SENTENCES = [["The", "children", "play", "."], [], ["Hi"], ["naïve", "東京", "x" * 60], ["Hi", "Hi"]]


@pytest.fixture
def elmo(bilm):
    return ELMo(bilm, SentenceTokenizer.english())


def by_the_definition(bilm, sentence):
    """All layers of one sentence, token by token from the equations: (L, T, 2 P)."""

    def direction(stack, words):
        x = bilm.token_encoder(torch.from_numpy(words).long())
        layers = [x]
        for index, layer in enumerate(stack.layers):
            weights = Weights(layer.input_weight, layer.recurrent_weight, layer.bias, layer.projection_weight)
            zero = State(torch.zeros(1, stack.projection_size), torch.zeros(1, stack.cell_size))
            hidden, _ = lstm_reference(x, [1] * len(x), zero, weights, layer.constants)
            x = hidden + x if index and stack.use_residual else hidden
            layers.append(x)
        return torch.stack(layers)[:, 1:]

    begin, end = ByteIndexer().sentence_marks()
    forward = direction(bilm.forward_stack, np.stack([begin, *ByteIndexer().rows(sentence)]))
    backward = direction(bilm.backward_stack, np.stack([end, *ByteIndexer().rows(sentence)[::-1]]))
    return torch.cat([forward, backward.flip(1)], dim=-1).detach().numpy()


@pytest.mark.parametrize("changes", [{}, {"n_layers": 1, "use_residual": False, "cell_clip": None}, {"n_layers": 3}])
def test_layers_equal_the_definition(changes):
    torch.manual_seed(0)
    bilm = make_bilm(small_config(**changes)).eval()
    elmo = ELMo(bilm, SentenceTokenizer.english())
    for sentence, layers in zip(SENTENCES, elmo.embed(SENTENCES), strict=True):
        assert layers.shape == (elmo.n_layers, len(sentence), elmo.size)
        assert layers.dtype == np.float32
        if sentence:
            np.testing.assert_allclose(layers, by_the_definition(bilm, sentence), rtol=1e-4, atol=1e-6)


def test_order_is_kept_whatever_the_batches(elmo):
    sentences = random_sentences(20)
    whole = elmo.embed(sentences)
    for batch_tokens in (1, 40, 10_000):
        assert_close(elmo.embed(sentences, batch_tokens=batch_tokens), whole, rtol=2e-6)


@pytest.mark.slow
def test_same_vectors_in_every_batch_at_the_width_of_original():
    """For few rows and for many the products are made of other parts; such weights make their rounding large."""
    with without_weights():
        bilm = make_bilm(original())
    bilm = bilm.to_empty(device="cpu")
    torch.manual_seed(0)
    for name, parameter in bilm.named_parameters():
        std = 0.1 if parameter.dim() == 1 else 3 * parameter[0].numel() ** -0.5
        torch.nn.init.normal_(parameter, std=1.0 if "embedding" in name else std)
    wide = ELMo(bilm, SentenceTokenizer.english())
    sentences = [["ban", "dove", "kily"], *(s[:4] for s in random_sentences(63, seed=3))]
    alone = [wide.embed([sentence])[0] for sentence in sentences]
    for size in (2, 3, 5, 11, 12, 13, 24, 33, 64):
        for number, vectors in enumerate(wide.embed(sentences[:size])):
            bound = 4e-5 * np.maximum(1, np.abs(alone[number]))
            assert (np.abs(vectors - alone[number]) <= bound).all(), (size, number)


@pytest.mark.parametrize("batch_tokens", [4096, 3])
def test_recurrent_layers_above_the_chosen_one_are_not_run(elmo, monkeypatch, batch_tokens):
    n_runs = Counter()
    run = LSTMLayer.run_directions

    def count(layers, *args):
        n_runs["layers"] += 1
        return run(layers, *args)

    monkeypatch.setattr(LSTMLayer, "run_directions", staticmethod(count))
    everything = elmo.embed(SENTENCES, batch_tokens=batch_tokens)
    n_batches = n_runs["layers"] / elmo.bilm.config.n_layers
    for layer in range(elmo.n_layers):
        n_runs.clear()
        chosen = elmo.embed(SENTENCES, layers=layer, batch_tokens=batch_tokens)
        assert n_runs["layers"] == layer * n_batches
        for vectors, expected in zip(chosen, everything, strict=True):
            np.testing.assert_array_equal(vectors, expected[layer])


def test_choice_of_layers_and_output(elmo):
    everything = elmo.embed(SENTENCES)
    for choice, expected in {
        "top": [each[-1] for each in everything],
        "average": [each.mean(0) for each in everything],
        np.int64(1): [each[1] for each in everything],
    }.items():
        assert_close(elmo.embed(iter(SENTENCES), layers=choice), expected, atol=1e-7)
    tensors = elmo.embed(SENTENCES, output="torch", show_progress=True)
    assert all(isinstance(each, torch.Tensor) for each in tensors)
    assert_close(tensors, everything, rtol=0, atol=0)


def test_no_sentences_and_empty_sentences(elmo):
    assert elmo.embed([]) == []
    assert elmo.embed([[]])[0].shape == (3, 0, elmo.size)
    assert elmo.embed(["", "  "], layers="top")[1].shape == (0, elmo.size)
    layers, mask = elmo(elmo.to_ids([]))
    assert (layers.shape, mask.shape) == ((3, 0, 0, elmo.size), (0, 0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.embed("a bare string"), "expected a list of sentences, got str"),
        (lambda e: next(e.embed_iter("a bare string")), "expected a list of sentences, got str"),
        (lambda e: e.embed_aligned([["The"]]), "expected a list of strings"),
        (lambda e: e.embed({"a": "b"}), "expected a list of sentences, got dict"),
        (lambda e: e.embed(None), "expected a list of sentences, got NoneType"),
        (lambda e: e.embed(type("DataFrame", (list,), {})()), "expected a list of sentences, got DataFrame"),
        (lambda e: e.embed_sentences({"a", "b"}), "expected a list of sentences, got set"),
        (lambda e: e.embed([["a"], {"b": 1}]), "sentence 1: expected a string or a list of tokens, got dict"),
        (lambda e: e.embed([3.5]), "sentence 0: expected a string or a list of tokens, got float"),
        (lambda _: ELMo.from_pretrained("mini-en", device="cuda:99"), "device cuda:99 is not available"),
        (lambda _: ELMo.from_pretrained("mini-en", device="gpu"), "device must be cpu, cuda, cuda:N or mps, got 'gpu'"),
        (lambda _: ELMo("mini-en"), r"use ELMo\.from_pretrained\('mini-en'\)"),
        (lambda e: e.embed([["a"], ["b", 3]]), "sentence 1: tokens must be strings"),
        (lambda e: e.embed([["a"]], layers=3), r"layers must be .* 0 to 2, got 3"),
        (lambda e: e.embed([["a"]], batch_tokens=0), "batch_tokens must be positive, got 0"),
        (lambda e: e([["a"]]), r"result of to_ids\(\), got list"),
        (lambda e: e.embed([["a"]], output="list"), "got 'list'"),
        (lambda e: e.unfreeze(n_layers=4), r"n_layers must be in \[0, 3\], got 4"),
        (lambda e: ELMo(e.bilm, e.tokenizer, precision="bf16-mix"), "did you mean 'bf16-mixed'"),
        (lambda e: ELMo(e.bilm, precision="int8").unfreeze(), "a model in precision int8 has no gradients"),
        (lambda e: setattr(e.unfreeze(), "precision", "int8"), "int8 has no gradients: choose 32-true"),
        (lambda e: ELMo(e.bilm, precision="int8").to("meta").embed([["a"]]), "int8 is for a CPU, got a model on meta"),
        (lambda e: ELMo(e.bilm, e.tokenizer, READERS["words"][0]), "262 ids, the indexer 6"),
    ],
)
def test_invalid_arguments_are_refused(elmo, call, message):
    with pytest.raises(InputError, match=message):
        call(elmo)


def test_int8_without_a_quantized_engine_is_refused(monkeypatch, elmo):
    monkeypatch.setattr("elmolite.embedding.elmo.int8_engine", lambda: None)
    with pytest.raises(InputError, match="needs fbgemm or QNNPACK"):
        elmo.precision = "int8"
    assert elmo.precision == "32-true"


def test_forward_is_embed_with_padding_and_a_mask(elmo):
    ids = elmo.to_ids(SENTENCES)
    assert len(ids.unique_words) == 10  # each distinct word once, and two marks
    layers, mask = elmo(ids)
    assert layers.shape == (3, len(SENTENCES), 4, elmo.size)
    assert mask.sum(dim=1).tolist() == [len(s) for s in SENTENCES]
    assert (layers[:, ~mask] == 0).all()
    assert_close([layers[:, row, : len(each)] for row, each in enumerate(SENTENCES)], elmo.embed(SENTENCES))


def test_frozen_unless_asked(elmo):
    ids = elmo.to_ids(SENTENCES)
    elmo.train()
    first = elmo(ids)[0]
    assert not first.requires_grad
    assert torch.equal(elmo(ids)[0], first)  # no dropout
    elmo.unfreeze()
    assert not torch.equal(elmo(ids)[0], first)  # dropout
    elmo.embed([["a"]])
    assert elmo.bilm.training  # embedding leaves the mode as it was
    layers, _ = elmo.eval()(ids)
    torch.testing.assert_close(layers.detach(), first)
    layers.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in elmo.parameters())


def test_to_ids_in_data_loader_workers(elmo):
    loader = DataLoader(SENTENCES, 2, collate_fn=elmo.to_ids, num_workers=1, multiprocessing_context="spawn")
    vectors = [layers[:, row, :n] for layers, mask in map(elmo, loader) for row, n in enumerate(mask.sum(dim=1))]
    assert_close(vectors, copy.deepcopy(elmo).embed(SENTENCES))


@pytest.mark.parametrize("kind", list(READERS))
def test_round_trip_of_models_of_all_inputs(tmp_path, kind):
    indexer, model_input = READERS[kind]
    torch.manual_seed(3)
    elmo = ELMo(make_bilm(small_config(input=model_input), indexer), SentenceTokenizer.whitespace(), indexer)
    vectors = elmo.embed(SENTENCES)
    assert_close([elmo.embed([sentence])[0] for sentence in SENTENCES], vectors)
    elmo.save_pretrained(tmp_path / "model")
    assert_close(ELMo.from_pretrained(tmp_path / "model").embed(SENTENCES), vectors, rtol=0, atol=0)


@pytest.mark.parametrize(("n_layers", "learning"), [(1, "1"), (2, "01")])
def test_layers_are_unfrozen_from_the_top(elmo, n_layers, learning):
    assert all(each.requires_grad for each in elmo.unfreeze(n_layers=elmo.n_layers).parameters())
    elmo.unfreeze(n_layers=n_layers)
    elmo.train()(elmo.to_ids(SENTENCES))[0].square().sum().backward()
    moving = {name for name, each in elmo.named_parameters() if each.grad is not None and each.grad.abs().sum() > 0}
    assert moving == {
        name for name, _ in elmo.named_parameters() if re.match(rf"bilm\.\w+_stack\.layers\.[{learning}]", name)
    }
    for freeze in (elmo.freeze, lambda: elmo.unfreeze(n_layers=0)):
        freeze()
        assert not any(each.requires_grad for each in elmo.parameters())
        assert not elmo.bilm.training
        elmo.unfreeze()


@pytest.mark.parametrize("changes", [{}, {"cell": "gru"}, {"cell": "rnn"}, {"n_layers": 1, "use_residual": False}])
@pytest.mark.parametrize("window", [1, 7, 40])
def test_windows_give_the_same_vectors(changes, window):
    sentence = [word for s in random_sentences(20) for word in s][:41]
    elmo = ELMo(make_bilm(small_config(**changes)).eval(), SentenceTokenizer.whitespace())
    for layers in ("all", "average", "top", 0):
        whole = elmo.embed([sentence, ["Hi"]], layers=layers)
        assert_close(elmo.embed([sentence, ["Hi"]], layers=layers, batch_tokens=window), whole)


@pytest.mark.slow
def test_a_long_sentence_needs_the_memory_of_a_window_and_of_its_vectors():
    code = """
import resource, sys, torch
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import BiLMConfig
from elmolite.embedding.elmo import ELMo
from elmolite.data.indexers import ByteIndexer
from elmolite.data.tokenization import SentenceTokenizer
torch.set_num_threads(1)
config = BiLMConfig(filters=[(1, 32), (2, 32)], cell_size=256, projection_size=16, n_highway_layers=1)
elmo = ELMo(BiLM(config, **ByteIndexer().sizes()).eval(), SentenceTokenizer.whitespace())
words = [f"w{i % 500}" for i in range(int(sys.argv[1]))]
vectors = elmo.embed([words], layers="top", batch_tokens=1024)[0]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024), vectors.nbytes)
"""
    said = [subprocess.check_output([sys.executable, "-c", code, n]) for n in ("1000", "10000")]
    (short, _), (long, vector_bytes) = (map(int, each.split()) for each in said)
    assert long - short < 3 * vector_bytes + 24e6  # all at once would take 65 MB for the cells alone


FORKS = """
import multiprocessing, sys, datasets, torch
from elmolite import ELMo
elmo = ELMo.from_pretrained(sys.argv[1])
texts = ["The children play in the garden ."] * 8
assert torch.get_num_threads() == 2
expected = elmo.embed_sentences(texts).tolist()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(elmo.embed_sentences, [texts, texts])[1].tolist() == expected
embed = lambda batch: {"vector": elmo.embed_sentences(batch["text"])}
mapped = datasets.Dataset.from_dict({"text": texts}).map(embed, batched=True, batch_size=4, num_proc=2)
assert len(mapped["vector"]) == 8
"""


@pytest.mark.multiprocess
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_forked_process_embeds(model_folder, dataset_cache, tmp_path):
    """OpenMP's threads are lost in a fork: waiting for them would never end."""
    pytest.importorskip("datasets")
    env = {**os.environ, "OMP_NUM_THREADS": "2", "HF_DATASETS_CACHE": str(dataset_cache), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", FORKS, model_folder], env=env, check=True, timeout=100, cwd=tmp_path)


def test_embed_iter_streams(elmo):
    unread = iter(SENTENCES * 10)
    vectors = elmo.embed_iter(unread, batch_tokens=4)
    first = next(vectors)
    rest = list(unread)
    assert len(rest) > 30
    read = (SENTENCES * 10)[: 50 - len(rest)]
    assert_close([first, *vectors], elmo.embed(read))
    assert list(elmo.embed_iter([])) == []
    assert len(list(elmo.embed_iter(iter([[]] * 200), batch_tokens=10))) == 200


def test_embed_aligned_gives_character_offsets(elmo):
    texts = ["  The  children don't play.", "", "naïve\t東京 \U0001f600\ud800x"]
    spaces = ELMo(elmo.bilm, SentenceTokenizer.whitespace())
    for model in (elmo, spaces):
        aligned = model.embed_aligned(texts)
        assert [found.tokens for found in aligned] == model.tokenize(texts)
        for embedded in (model.embed(texts), model.embed([found.tokens for found in aligned])):
            assert_close([found.vectors for found in aligned], embedded)
        for text, found in zip(texts, aligned, strict=True):
            pieces = [text[begin:end].replace("\ud800", "?") for begin, end in found.offsets]
            assert pieces == [token.replace("\ud800", "?") for token in found.tokens]
    assert elmo.embed_aligned(texts[:1])[0].offsets[:4] == [(2, 5), (7, 15), (16, 18), (18, 21)]


def test_a_model_says_what_it_is(elmo, model_folder):
    assert repr(elmo) == "ELMo(3 layers of 24, 18,636 parameters, frozen, precision='32-true', device='cpu')"
    assert elmo.config is elmo.bilm.config
    elmo = ELMo.from_pretrained(model_folder, device="meta").unfreeze()
    assert elmo.device == torch.device("meta")
    assert "trainable" in repr(elmo)


def test_out_of_memory_halves_the_batches(elmo, monkeypatch, caplog):
    layers = ELMo._layers

    def small_gpu(self, ids, selection):
        if int(ids.lengths.sum()) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return layers(self, ids, selection)

    sentences = SENTENCES + [["Hi", "The"]] * 99
    expected = elmo.embed(sentences)
    monkeypatch.setattr(ELMo, "_layers", small_gpu)
    assert_close(elmo.embed(sentences, batch_tokens=64), expected)
    assert caplog.messages[0] == "out of memory on cpu with batch_tokens=64; halving it"
    assert len(caplog.messages) < 6  # smaller batches are kept


def test_word_cache_is_used_while_the_model_is_frozen(elmo):
    expected = elmo.embed(SENTENCES)
    misses = elmo.word_cache.misses
    assert misses == len(elmo.word_cache) == 10  # eight words and two marks
    assert_close(elmo.embed(SENTENCES), expected)
    assert (elmo.word_cache.misses, elmo.word_cache.hit_rate) == (misses, 0.5)
    elmo.unfreeze()
    elmo.embed(SENTENCES)
    assert len(elmo.word_cache) == elmo.word_cache.misses == 0
    with torch.no_grad():
        elmo.bilm.token_encoder.projection.bias.add_(1)
    changed = elmo.embed(SENTENCES)
    elmo.freeze()
    for cache in (WordCache(), WordCache(max_bytes=0)):
        elmo.word_cache = cache
        assert_close(elmo.embed(SENTENCES), changed)


def test_carry_state_and_reset_state(elmo):
    """Each row starts from its last final state, after both marks; missing rows keep theirs."""

    def layers_of(sentence, before):
        ids = [ByteIndexer().sentence_marks()[:1], ByteIndexer().rows(sentence), ByteIndexer().sentence_marks()[1:]]
        x = elmo.bilm.token_encoder(torch.from_numpy(np.concatenate(ids)).long())
        outputs, after = elmo.bilm.forward_stack(x, [1] * len(x), before)
        return outputs[-1][1:-1].detach().numpy(), after

    zero = elmo.bilm.forward_stack.zero_state(1, next(elmo.bilm.parameters()))
    states = [zero, zero, zero]
    for call in ([["Hi"], ["The", "children"], ["a", "b", "c"]], [["x", "y"]], [[], ["z"]], [["Hi"], ["a"], ["b"]]):
        for row, vectors in enumerate(elmo.embed(call, layers="top", carry_state=True)):
            expected, states[row] = layers_of(call[row], states[row])
            np.testing.assert_allclose(vectors[:, : elmo.size // 2], expected, rtol=1e-5, atol=2e-6)
    elmo.reset_state()
    again = elmo.embed([["Hi"]], layers="top", carry_state=True)[0]
    np.testing.assert_allclose(again, elmo.embed([["Hi"]], layers="top")[0], rtol=1e-5, atol=2e-6)


def test_autocast_leaves_no_trace(elmo):
    words = [["wonderful", "world", *(f"w{i}" for i in range(20))]]
    expected = copy.deepcopy(elmo).embed(words)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, _ = elmo(elmo.to_ids(words))
    assert_close([rough[:, 0].float()], expected, atol=0.05)
    assert_close(elmo.embed(words), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_every_path_works_in_every_precision(elmo, dtype):
    sentences = [[word for s in random_sentences(3) for word in s]]
    expected = elmo.embed(sentences)
    elmo.to(dtype)
    for options in ({}, {"batch_tokens": 5}, {"carry_state": True}):
        assert_close(elmo.embed(sentences, **options), expected, atol=0.05)


def test_a_model_that_is_used_in_inference_mode(model_folder):
    with torch.inference_mode():
        elmo = ELMo.from_pretrained(model_folder)
        expected = elmo.embed(["a b"])[0]
    np.testing.assert_allclose(elmo.embed(["a b"])[0], expected, atol=2e-6)


@pytest.mark.parametrize(("precision", "least"), [("bf16-mixed", 0.9995), ("int8", 0.999)])
def test_lower_precisions_give_nearly_the_same_vectors(precision, least):
    elmo = ELMo.from_pretrained("mini-en")
    elmo.tokenizer = SentenceTokenizer.whitespace()
    (words,) = elmo.tokenize(["The old king who had two sons gave them a ship , and both of them sailed away ."])
    sentences = [words[i:] + words[:i] for i in range(len(words))]  # so many that all products are in the precision
    exact, fingerprint = elmo.embed(sentences), elmo.fingerprint()
    elmo.precision = precision
    assert len(elmo.word_cache) == 0  # its vectors were those of the other precision
    assert elmo.fingerprint() != fingerprint
    found = elmo.embed(sentences)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == np.float32
        assert not np.array_equal(ours, theirs)
        cosines = (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)
        assert (cosines > least).all()
    other = elmo.embed([*sentences[:-1], ["!"] * len(words)])
    assert precision != "int8" or all(map(np.array_equal, found[:-1], other[:-1]))
    elmo.precision = "32-true"
    assert_close(elmo.embed(sentences), exact, rtol=0, atol=0)
