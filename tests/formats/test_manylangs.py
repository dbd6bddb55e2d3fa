"""Models of ELMoForManyLangs: parity with a numpy implementation and the original outputs."""

import json

import numpy as np
import pytest
import torch
from helpers.data import SHARED, needs_shared
from helpers.legacy_numpy import assert_same, read_many_langs, write_many_langs

from elmolite.checkpoint import convert
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before zip"])
@pytest.mark.parametrize("word_dim", [5, 0])
def test_vectors_are_those_of_the_definition(tmp_path, word_dim, is_zip):
    folder = write_many_langs(tmp_path / "old", word_dim=word_dim, is_zip=is_zip)
    sentences = [["bad", "cab"], ["deé", "zzz", "東", "\u3000", "bad", "d" * 60], [], ["<bos>", "<oov>", "q"]]
    elmo = ELMo.from_pretrained(folder)
    assert_same(elmo, read_many_langs(folder), sentences)
    elmo.save_pretrained(tmp_path / "new")
    for a, b in zip(ELMo.from_pretrained(tmp_path / "new").embed(sentences), elmo.embed(sentences), strict=True):
        np.testing.assert_array_equal(a, b)


@needs_shared
def test_the_original_layers():
    folder = SHARED / "legacy" / "elmoformanylangs_tiny"
    sentences = [line.split() for line in (folder / "sentences.txt").read_text(encoding="utf-8").splitlines()]
    expected = np.load(folder / "layers.npz")
    assert len(expected) == len(sentences)
    for number, layers in enumerate(ELMo.from_pretrained(folder).embed(sentences)):
        np.testing.assert_allclose(layers, expected[f"s{number}"], rtol=0, atol=1e-5)


def test_the_options_are_found_next_to_the_weights_whatever_path_is_named(tmp_path):
    folder = write_many_langs(tmp_path / "old")
    for path in ("/users4/conll18st/elmo/configs/sizes.json", "C:\\elmo\\sizes.json", "configs/sizes.json"):
        (folder / "config.json").write_text(json.dumps({"config_path": path}))
        assert ELMo.from_pretrained(folder).n_layers == 3


def saved(state):
    return lambda folder: torch.save(state, folder / "encoder.pkl")


def rewritten(name, content):
    return lambda folder: (folder / name).write_text(content)


def replaced(old, new, name="sizes.json"):
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


UNREADABLE = "encoder.pkl: not a readable file of torch weights"
BAD_FILES = {
    "no options": (lambda f: (f / "sizes.json").unlink(), "sizes.json is missing; config.json names it"),
    "no path": (rewritten("config.json", "{}"), "'config_path' is missing; expected str"),
    "a broken line": (rewritten("word.dic", "a\tb\tc\n"), r"word.dic, line 1: expected a token, a tab and its id"),
    "no mark": (rewritten("word.dic", "a\t0\n"), "<bos> is missing among the words"),
    "a lexicon of another size": (
        replaced("deed\t6\n", "deed\t6\nmore\t7\n", "word.dic"),
        r"'word_emb_layer.embedding.weight' is torch.float32 \(7, 5\); expected float32 \(8, 5\)",
    ),
    "no weights": (saved({}), "layer_0.input_linearity.weight' is missing"),
    "truncated": (lambda f: (f / "encoder.pkl").write_bytes((f / "encoder.pkl").read_bytes()[:-500]), UNREADABLE),
    "numbers": (saved({"a": 1}), "expected tensors by name"),
    "a layer too many": (replaced('"n_layers": 2', '"n_layers": 1'), r"encoder.pkl: unexpected 'backward_layer_1\."),
    "another encoder": (replaced('"elmo"', '"lstm"'), "'encoder': 'name' is \"lstm\"; expected elmo"),
}


@pytest.mark.parametrize(("change", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_invalid_files_are_named(tmp_path, change, message):
    folder = write_many_langs(tmp_path / "old")
    change(folder)
    with pytest.raises(InputError, match=message):
        ELMo.from_pretrained(folder)


def test_not_exported_as_hdf5(tmp_path):
    convert(write_many_langs(tmp_path / "old"), tmp_path / "new")
    with pytest.raises(InputError, match="cannot export to bilm-tf HDF5: models that read words and Unicode"):
        convert(tmp_path / "new", tmp_path / "back")
    assert not (tmp_path / "back").exists()
