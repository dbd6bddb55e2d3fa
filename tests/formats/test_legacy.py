"""Earlier models are read, converted and written; held to another implementation and to the original outputs."""

import json
import shutil
import sys
import zipfile

import h5py
import numpy as np
import pytest
import torch
from conftest import SHARED, needs_shared
from legacy_numpy import read_bilm_tf, read_many_langs, write_bilm_tf, write_many_langs

from elmolite.checkpoint import Checkpoint
from elmolite.cli.main import main
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.formats import loading
from elmolite.formats.convert import convert
from elmolite.formats.source import refuse_legacy

LEGACY = SHARED / "legacy"
SENTENCES = [["The", "play", "."], [], ["naïve", "東京", "x" * 60, "The"], ["a"]]

VARIANTS = {
    "as published": {},
    "261 characters": {"n_characters": 261},
    "no skip connections": {"lstm": {"use_skip_connections": False}},
    "skip connections not named": {"lstm": {"use_skip_connections": None}},
    "no highway": {"cnn": {"n_highway": 0}},
    "highway not named": {"cnn": {"n_highway": None}},
    "tanh": {"cnn": {"activation": "tanh"}},
    "no projection": {"lstm": {"dim": 6}},
    "no projection of tokens": {"lstm": {"projection_dim": 12}},
    "one layer": {"lstm": {"n_layers": 1}},
    "three layers": {"lstm": {"n_layers": 3}},
    "other filters": {"cnn": {"filters": [[2, 4], [5, 3]], "embedding": {"dim": 7}}},
    "no clips": {"lstm": {"cell_clip": None, "proj_clip": None}},
    "clips of 0": {"lstm": {"cell_clip": 0, "proj_clip": 0}},
    "width not named": {"cnn": {"max_characters_per_token": None, "n_characters": None}},
}


def assert_same(elmo, model, sentences, *, atol=1e-5):
    for sentence, layers in zip(sentences, elmo.embed(sentences), strict=True):
        if sentence:
            np.testing.assert_allclose(layers, model.layers(sentence), rtol=0, atol=atol)
        else:
            assert layers.shape == (elmo.n_layers, 0, elmo.size)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_vectors_are_those_of_the_definition(tmp_path, variant):
    folder = write_bilm_tf(tmp_path / "old", **variant)
    model = read_bilm_tf(folder / "options.json", folder / "weights.hdf5")
    assert_same(ELMo.from_pretrained(folder), model, SENTENCES)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_from_hdf5_and_back_is_bit_exact(tmp_path, variant):
    folder = write_bilm_tf(tmp_path / "old", **variant)
    convert(folder, tmp_path / "new")
    convert(tmp_path / "new", tmp_path / "back")
    arrays = []
    for each in (folder, tmp_path / "back"):
        found = {}
        with h5py.File(each / "weights.hdf5") as file:
            file.visititems(
                lambda name, item, to=found: to.update({name: item[...]}) if hasattr(item, "shape") else None
            )
        arrays.append(found)
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        assert array.dtype == arrays[1][name].dtype == np.float32
        np.testing.assert_array_equal(array.view(np.uint32), arrays[1][name].view(np.uint32), err_msg=name)
    a, b = (ELMo.from_pretrained(each).embed(SENTENCES) for each in (folder, tmp_path / "back"))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_state_is_carried_from_call_to_call_by_row(tmp_path):
    folder = write_bilm_tf(tmp_path / "old")
    model = read_bilm_tf(folder / "options.json", folder / "weights.hdf5")
    elmo = ELMo.from_pretrained(folder)
    calls = [
        [["The", "play"], ["a"], ["x", "y", "z"]],
        [["a", "b", "c"], ["The"]],
        [["q"], ["a", "a"], ["b"], ["c", "d"]],
    ]
    for _ in range(2):
        for sentences in calls:
            for row, vectors in enumerate(elmo.embed(sentences, carry_state=True)):
                np.testing.assert_allclose(vectors, model.layers(sentences[row], row), atol=1e-5)
        elmo.reset_state()
        model.states.clear()
    np.testing.assert_allclose(elmo.embed(calls[0])[0], model.layers(calls[0][0]), atol=1e-5)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before zip"])
@pytest.mark.parametrize("word_dim", [5, 0])
def test_many_langs(tmp_path, word_dim, is_zip):
    folder = write_many_langs(tmp_path / "old", word_dim=word_dim, is_zip=is_zip)
    sentences = [["bad", "cab"], ["deé", "zzz", "東", "\u3000", "bad", "d" * 60], [], ["<bos>", "<oov>", "q"]]
    elmo = ELMo.from_pretrained(folder)
    assert_same(elmo, read_many_langs(folder), sentences)
    elmo.save_pretrained(tmp_path / "new")
    for a, b in zip(ELMo.from_pretrained(tmp_path / "new").embed(sentences), elmo.embed(sentences), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_options_of_many_langs_lie_beside_whatever_path_is_named(tmp_path):
    folder = write_many_langs(tmp_path / "old")
    for path in ("/users4/conll18st/elmo/configs/sizes.json", "C:\\elmo\\sizes.json", "configs/sizes.json"):
        (folder / "config.json").write_text(json.dumps({"config_path": path}))
        assert ELMo.from_pretrained(folder).n_layers == 3


def zipped(folder, path, inside=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, inside + file.name)
    return path


NAMES = {
    "options.json and weights.hdf5": ("options.json", "weights.hdf5"),
    "AllenNLP's": ("elmo_2x4096_512_2048cnn_2xhighway_options.json", "elmo_2x4096_512_2048cnn_2xhighway_weights.hdf5"),
    "the NLPL repository's": ("options.json", "model.hdf5"),
    "another": ("my_options.json", "my.h5"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_a_pair_under_its_names_in_the_wild(tmp_path, names):
    folder = write_bilm_tf(tmp_path / "old", names=names)
    (folder / "vocab.txt").write_text("<S>\n</S>\n<UNK>\nThe\n")
    options, weights = (folder / name for name in names)
    model = read_bilm_tf(options, weights)
    other = tmp_path / "elsewhere" / "w.hdf5"
    other.parent.mkdir()
    shutil.copy(weights, other)
    archives = [zipped(folder, tmp_path / "a.zip"), zipped(folder, tmp_path / "b.zip", "144/")]
    for source in ((folder,), (options,), (weights,), (options, weights), (options, other), *((a,) for a in archives)):
        assert_same(ELMo.from_pretrained(*source), model, SENTENCES[:1])


def test_a_zip_of_many_langs(tmp_path):
    folder = write_many_langs(tmp_path / "old")
    assert_same(ELMo.from_pretrained(zipped(folder, tmp_path / "a.zip")), read_many_langs(folder), [["bad", "e"]])


def test_two_models_in_one_folder_are_told_apart_by_their_beginnings(tmp_path):
    for seed, name in enumerate(("one_", "two_")):
        write_bilm_tf(tmp_path, names=(f"{name}options.json", f"{name}weights.hdf5"), seed=seed)
    with pytest.raises(InputError, match=r"found several: one_weights.hdf5, two_weights.hdf5; name one"):
        ELMo.from_pretrained(tmp_path)
    for name in ("one_", "two_"):
        model = read_bilm_tf(tmp_path / f"{name}options.json", tmp_path / f"{name}weights.hdf5")
        for half in ("options.json", "weights.hdf5"):
            assert_same(ELMo.from_pretrained(tmp_path / f"{name}{half}"), model, SENTENCES[:1])


def change_options(folder, change):
    path = folder / "options.json"
    options = json.loads(path.read_text())
    change(options)
    path.write_text(json.dumps(options))


BAD_OPTIONS = {
    "no characters": (lambda o: o.pop("char_cnn"), "'char_cnn' is missing: models that read no characters"),
    "no lstm": (lambda o: o.pop("lstm"), "'lstm' is missing; expected an object"),
    "lstm is a list": (lambda o: o.update(lstm=[1]), r"'lstm' is \[1\]; expected an object"),
    "no dim": (lambda o: o["lstm"].pop("dim"), "'lstm': 'dim' is missing; expected a whole number"),
    "dim is text": (lambda o: o["lstm"].update(dim="8"), "'dim' is \"8\"; expected a whole number"),
    "dim is infinite": (lambda o: o["lstm"].update(dim=float("inf")), "Infinity is no number"),
    "dim is huge": (lambda o: o["lstm"].update(dim=10**400), "'dim' is 1000"),
    "a clip that is huge": (lambda o: o["lstm"].update(cell_clip=10**400), "'cell_clip' is 1000"),
    "dim is true": (lambda o: o["lstm"].update(dim=True), "'dim' is true"),
    "a million layers": (lambda o: o["lstm"].update(n_layers=10**6), "a whole number of at most 100"),
    "a million highways": (lambda o: o["char_cnn"].update(n_highway=10**6), "a whole number of at most 100"),
    "negative": (lambda o: o["lstm"].update(n_layers=-1), "'n_layers' is -1; expected a whole number"),
    "no layers": (lambda o: o["lstm"].update(n_layers=0), "n_layers 0 is not at least 1"),
    "a clip of text": (lambda o: o["lstm"].update(cell_clip="3"), "'cell_clip' is \"3\"; expected a number"),
    "skip is a number": (
        lambda o: o["lstm"].update(use_skip_connections=1),
        "'use_skip_connections' is 1; expected true",
    ),
    "activation": (
        lambda o: o["char_cnn"].update(activation="gelu"),
        "'activation' is \"gelu\"; expected relu or tanh",
    ),
    "filters": (
        lambda o: o["char_cnn"].update(filters=[[1]]),
        r"'filters' is \[\[1\]\]; expected a list of \[width, number\]",
    ),
    "characters": (lambda o: o["char_cnn"].update(n_characters=1000), "'n_characters' is 1000; expected 261 or 262"),
    "width": (lambda o: o["char_cnn"].update(max_characters_per_token=20), "'max_characters_per_token' is 20; only 50"),
    "embedding": (lambda o: o["char_cnn"].update(embedding=16), "'embedding' is 16; expected an object"),
    "another size": (
        lambda o: o["lstm"].update(dim=9),
        r"'RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell/W_0' is float32 \(12, 32\); expected float32 \(12, 36\)",
    ),
    "a layer more": (
        lambda o: o["lstm"].update(n_layers=3),
        "'RNN_0/RNN/MultiRNNCell/Cell2/LSTMCell/W_0' is missing",
    ),
    "a layer less": (lambda o: o["lstm"].update(n_layers=1), "Cell1/LSTMCell/B', which is not of a model with these"),
}


@pytest.mark.parametrize(("change", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_what_is_wrong_with_options_is_named(tmp_path, change, message):
    folder = write_bilm_tf(tmp_path / "old")
    change_options(folder, change)
    with pytest.raises(InputError, match=message):
        ELMo.from_pretrained(folder)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:200])


def drop(name):
    def change(path):
        with h5py.File(path, "a") as file:
            del file[name]

    return change


def make_whole(path):
    with h5py.File(path, "a") as file:
        del file["CNN/b_cnn_0"]
        file["CNN/b_cnn_0"] = np.zeros(3, np.int64)


BAD_WEIGHTS = {
    "cut short": (cut_short, "weights.hdf5: has 200 bytes; the weights of a model with these options take 14,872"),
    "no array": (drop("CNN_proj/W_proj"), r"'CNN_proj/W_proj' is missing; expected an array \(12, 6\)"),
    "whole numbers": (make_whole, r"'CNN/b_cnn_0' is int64 \(3,\); expected float32 \(3,\)"),
    "no file": (lambda path: path.unlink(), "expected a file named .*weights.hdf5 or model.hdf5, found none"),
}


@pytest.mark.parametrize(("change", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_what_is_wrong_with_weights_is_named(tmp_path, change, message):
    folder = write_bilm_tf(tmp_path / "old")
    change(folder / "weights.hdf5")
    with pytest.raises(InputError, match=message):
        ELMo.from_pretrained(folder)


def without(name, key):
    def change(folder):
        state = torch.load(folder / name, weights_only=True)
        del state[key]
        torch.save(state, folder / name)

    return change


class Bomb:
    def __reduce__(self):
        return print, ("executed",)


def rewritten(name, content):
    return lambda folder: (folder / name).write_text(content)


def replaced(name, old, new):
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


BAD_MANY_LANGS = {
    "no options": (lambda f: (f / "sizes.json").unlink(), "sizes.json is missing, which config.json names"),
    "no path": (rewritten("config.json", "{}"), "'config_path' must name the file"),
    "a broken line": (rewritten("word.dic", "a\tb\tc\n"), r"word.dic, line 1: expected a token, a tab and its id"),
    "no mark": (rewritten("word.dic", "a\t0\n"), "<bos> is missing among the words"),
    "a lexicon of another size": (
        lambda f: (f / "word.dic").write_text((f / "word.dic").read_text() + "more\t7\n"),
        r"'word_emb_layer.embedding.weight' is torch.float32 \(7, 5\); .*it should be float32 \(8, 5\)",
    ),
    "no weights": (
        without("encoder.pkl", "forward_layer_0.state_linearity.bias"),
        "'forward_layer_0.state_linearity.bias' is missing",
    ),
    "a file of something else": (
        lambda f: (f / "encoder.pkl").write_bytes(b"hello"),
        "encoder.pkl: not a file of torch's weights",
    ),
    "code": (lambda f: torch.save(Bomb(), f / "encoder.pkl"), "encoder.pkl: not a file of torch's weights"),
    "a layer too many": (
        replaced("sizes.json", '"n_layers": 2', '"n_layers": 1'),
        r"encoder.pkl: holds 'backward_layer_1\..*', which is not of a model with these options",
    ),
    "a highway too many": (
        replaced("sizes.json", '"n_highway": 1', '"n_highway": 0'),
        r"holds 'highways._layers.0.bias', which is not of a model",
    ),
    "an id of a thousand digits": (rewritten("char.dic", f"a\t{'9' * 1000}\n"), "char.dic, line 1: expected a token"),
    "numbers": (lambda f: torch.save({"a": 1}, f / "encoder.pkl"), "expected tensors by name"),
    "another encoder": (
        replaced("sizes.json", '"elmo"', '"lstm"'),
        "'encoder': 'name' is 'lstm'; only 'elmo' can be read",
    ),
    "no characters": (
        replaced("sizes.json", '"char_dim": 4', '"char_dim": 0'),
        "'char_dim' is 0: models that read no characters",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_MANY_LANGS.values(), ids=BAD_MANY_LANGS)
def test_what_is_wrong_with_many_langs_is_named(tmp_path, capsys, change, message):
    folder = write_many_langs(tmp_path / "old")
    change(folder)
    with pytest.raises(InputError, match=message):
        ELMo.from_pretrained(folder)
    assert "executed" not in capsys.readouterr().out


UNSAYABLE = {
    "words": ({"input": "words"}, "a model that reads words"),
    "gru": ({"cell": "gru", "cell_clip": None, "projection_clip": None}, "cells of the kind gru"),
    "forget bias": ({"forget_bias": 0.0}, "a forget bias of 0.0"),
    "square projection": ({"cell_size": 8, "projection_size": 8}, "cells as many as the projection has numbers"),
}


@pytest.mark.parametrize(("changes", "message"), UNSAYABLE.values(), ids=UNSAYABLE)
def test_what_hdf5_cannot_say_is_refused_by_name(changes, message):
    from conftest import small_config

    from elmolite.formats.allennlp import write_options

    with pytest.raises(InputError, match=f"no way to say this: {message}"):
        write_options(small_config(**changes))


def test_a_model_of_many_langs_cannot_be_written_as_hdf5(tmp_path):
    convert(write_many_langs(tmp_path / "old"), tmp_path / "new")
    with pytest.raises(InputError, match="a model that reads words and Unicode characters, not bytes"):
        convert(tmp_path / "new", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_folder_that_holds_something_is_not_written_into(tmp_path, model_folder):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").touch()
    with pytest.raises(InputError, match="exists already"):
        convert(model_folder, tmp_path / "a")


def test_reading_needs_no_h5py_and_writing_says_how_to_have_it(tmp_path, monkeypatch, model_folder):
    folder = write_bilm_tf(tmp_path / "old")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert ELMo.from_pretrained(folder).n_layers == 3
    with pytest.raises(InputError, match=r"pip install 'elmolite\[legacy\]'"):
        convert(model_folder, tmp_path / "new")


def test_a_model_of_elmolite_is_not_taken_for_another(tmp_path, model_folder):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / "vectors.h5").touch()
    (folder / "char.dic").touch()
    assert Checkpoint.from_pretrained(folder).bilm.n_parameters


@needs_shared
@pytest.mark.parametrize("name", ["zero_state_tiny", "elmoformanylangs_tiny"])
def test_the_original_s_layers_from_zero_state(name):
    elmo = ELMo.from_pretrained(LEGACY / name)
    sentences = [line.split() for line in (LEGACY / name / "sentences.txt").read_text(encoding="utf-8").splitlines()]
    expected = np.load(LEGACY / name / "layers.npz")
    assert len(expected) == len(sentences)
    for number, layers in enumerate(elmo.embed(sentences)):
        np.testing.assert_allclose(layers, expected[f"s{number}"], rtol=0, atol=1e-5)


@needs_shared
@pytest.mark.parametrize(
    ("name", "file"), [("allennlp_fixture", "sentences.json"), ("bilm_tf_fixture", "lm_embeddings_sentences.json")]
)
def test_the_original_s_top_layer_with_carried_state(name, file):
    elmo = ELMo.from_pretrained(LEGACY / name)
    lists = json.loads((LEGACY / name / file).read_text())
    expected = [h5py.File(LEGACY / name / f"lm_embeddings_{k}.hdf5") for k in range(3)]
    for batch in range(10):
        sentences = [each[batch].split() for each in lists]
        for vectors, their in zip(elmo.embed(sentences, layers="top", carry_state=True), expected, strict=True):
            np.testing.assert_allclose(vectors, np.concatenate(list(their[str(batch)]), axis=1), rtol=0, atol=1e-5)


@needs_shared
def test_the_original_s_token_layer():
    folder = LEGACY / "allennlp_fixture"
    elmo = ELMo.from_pretrained(folder)
    words = (folder / "vocab_test.txt").read_text(encoding="utf-8").split("\n")
    with h5py.File(folder / "elmo_token_embeddings.hdf5") as file:
        expected = dict(zip(words, file["embedding"][...], strict=True))
    marks = elmo.bilm.token_encoder(torch.from_numpy(elmo.indexer.sentence_marks())).detach().numpy()
    found = dict(zip(("<S>", "</S>"), marks, strict=True))
    words = [word for word in words if word not in found]
    vectors = elmo.embed([[word] for word in words], layers=0)
    found |= {word: vector[0, : elmo.size // 2] for word, vector in zip(words, vectors, strict=True)}
    assert found.keys() == expected.keys()
    for word, vector in found.items():
        np.testing.assert_allclose(vector, expected[word], rtol=0, atol=1e-5)


def test_earlier_models_in_commands(tmp_path, capsys):
    folder = write_bilm_tf(tmp_path / "old")
    (tmp_path / "a.txt").write_text("The play .\n\n")
    (tmp_path / "train.txt").write_text("yes a b\nno b c\n" * 5)
    embed = ["embed", str(folder), "--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "v.npz")]
    assert main(embed) == 0
    assert main(["info", str(folder)]) == 0
    assert "3 layers of 12" in capsys.readouterr().out
    for command in (
        ["finetune", "classify", f"--encoder={folder}", f"--train={tmp_path / 'train.txt'}", f"--out={tmp_path / 'o'}"],
        ["pretrain", "--init-from", str(folder), "--corpus", "c", "--out", str(tmp_path / "o")],
    ):
        assert main(command) == 2
        assert f"is an earlier model; make a model folder of it: elmolite convert {folder}" in capsys.readouterr().err
    assert main(["convert", str(folder), str(tmp_path / "new"), "--tokenizer", "english"]) == 0
    assert "a model folder of elmolite" in capsys.readouterr().out
    assert not ELMo.from_pretrained(tmp_path / "new").tokenizer.is_whitespace
    assert main(["convert", str(folder), str(tmp_path / "new")]) == 2
    assert main(["convert", str(folder), str(tmp_path / "new"), "--overwrite"]) == 0
    assert main(["convert", str(tmp_path / "new"), str(tmp_path / "back")]) == 0
    assert "options.json and weights.hdf5" in capsys.readouterr().out


def test_a_file_is_known_by_its_content(tmp_path, capsys):
    folder = write_bilm_tf(tmp_path / "old", names=("OPTIONS.JSON", "WEIGHTS.HDF5"))
    model = read_bilm_tf(folder / "OPTIONS.JSON", folder / "WEIGHTS.HDF5")
    archive = zipped(folder, tmp_path / "144")
    for source in (folder, folder / "WEIGHTS.HDF5", archive):
        assert_same(ELMo.from_pretrained(source), model, SENTENCES[:1])
    assert convert(archive, tmp_path / "new") == "a model folder of elmolite"
    shutil.copy(folder / "OPTIONS.JSON", tmp_path / "elmo.cfg")
    assert_same(ELMo.from_pretrained(tmp_path / "elmo.cfg", folder / "WEIGHTS.HDF5"), model, SENTENCES[:1])
    with pytest.raises(InputError, match="is an earlier model"):
        refuse_legacy(archive)


def test_conversion_to_hdf5_leaves_nothing_half_done(tmp_path, model_folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)
        with pytest.raises(InputError, match="need h5py"):
            convert(model_folder, tmp_path / "out")
    with pytest.raises(InputError, match="--overwrite and --tokenizer are for model folders"):
        convert(model_folder, tmp_path / "out", overwrite=True)
    convert(model_folder, tmp_path / "out")
    assert (tmp_path / "out" / "vocab.txt").is_file()


def flipped(content, rng):
    content = bytearray(content)
    for _ in range(rng.integers(1, 10)):
        content[rng.integers(len(content))] = rng.integers(256)
    return bytes(content[: rng.integers(len(content))] if rng.random() < 0.2 else content)


@pytest.mark.parametrize("name", ["weights.hdf5", "options.json", "a.zip", "encoder.pkl", "char.dic", "sizes.json"])
def test_a_damaged_file_is_refused_or_read(tmp_path, name):
    """Never an error of another kind; where a flip hits a number of a weight, another model is read."""
    if name in ("encoder.pkl", "char.dic", "sizes.json"):
        source = folder = write_many_langs(tmp_path / "old")
    else:
        source = folder = write_bilm_tf(tmp_path / "old")
    if name == "a.zip":
        source = zipped(folder, tmp_path / "a.zip")
    path = source if name == "a.zip" else folder / name
    whole, rng, n_refused = path.read_bytes(), np.random.default_rng(0), 0
    head = 2500 if name == "weights.hdf5" else len(whole)
    for _ in range(150):
        path.write_bytes(flipped(whole[:head], rng) + whole[head:])
        try:
            ELMo.from_pretrained(source)
        except InputError:
            n_refused += 1
    assert n_refused > 20


def test_links_and_other_things_in_hdf5_are_not_followed(tmp_path):
    for kind in ("soft", "external", "group", "type", "elsewhere"):
        folder = write_bilm_tf(tmp_path / kind)
        with h5py.File(folder / "other.h5", "w") as other:
            other["x"] = np.zeros(3, np.float32)
        with h5py.File(folder / "weights.hdf5", "a") as file:
            del file["CNN/b_cnn_0"]
            if kind == "elsewhere":
                external = [("other.h5", 0, 12)]
                file.create_dataset("CNN/b_cnn_0", (3,), np.float32, external=external)
            else:
                file["CNN/b_cnn_0"] = {
                    "soft": h5py.SoftLink("/CNN/b_cnn_0"),
                    "external": h5py.ExternalLink("other.h5", "x"),
                    "group": h5py.SoftLink("/CNN"),
                    "type": np.dtype("float32"),
                }[kind]
        message = "newer HDF5 format" if kind == "external" else "'CNN/b_cnn_0' is missing"
        with pytest.raises(InputError, match=message):
            ELMo.from_pretrained(folder)


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_does(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("options.json", b" " * (64 << 20))
        archive.writestr("weights.hdf5", b"")
    with pytest.raises(InputError, match=r"options.json: 67,108,864 bytes are too many"):
        ELMo.from_pretrained(tmp_path / "a.zip")


def test_what_lies_beside_the_model_in_an_archive_does_not_matter(tmp_path):
    folder = write_bilm_tf(tmp_path / "old")
    archive = zipped(folder, tmp_path / "a.zip", "144/")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("README.md", "a model")
        opened.writestr("__MACOSX/._x", "x")
    assert ELMo.from_pretrained(archive).n_layers == 3
    with zipfile.ZipFile(archive, "a") as opened, pytest.warns(UserWarning, match="Duplicate"):
        opened.writestr("144/options.json", "{}")
    with pytest.raises(InputError, match=r"has 144/options\.json twice"):
        ELMo.from_pretrained(archive)


@pytest.mark.parametrize(
    ("options", "weights", "message"),
    [
        ("old/options.json", "old/nowhere.hdf5", r"old/nowhere\.hdf5 is missing"),
        ("old/nowhere.json", "old/weights.hdf5", r"old/nowhere\.json is missing"),
        ("old/options.json", "nowhere/weights.hdf5", r"nowhere/weights\.hdf5: no such file"),
        ("nowhere/options.json", "old/weights.hdf5", r"nowhere/options\.json: no such file"),
        ("old/nowhere.json", None, r"old/nowhere\.json: no such file"),
        ("nowhere/options.json", None, r"nowhere/options\.json: no such file"),
    ],
)
def test_a_file_that_is_not_there_is_named(tmp_path, options, weights, message):
    write_bilm_tf(tmp_path / "old")
    with pytest.raises(InputError, match=message):
        loading.read(tmp_path / options, None if weights is None else tmp_path / weights)
