"""Models of bilm-tf and AllenNLP: parity with a numpy implementation and the original outputs, and round trips."""

import json

import h5py
import numpy as np
import pytest
from helpers.data import SHARED, needs_shared
from helpers.legacy_numpy import arrays_of, assert_same, read_bilm_tf, write_bilm_tf
from helpers.models import small_config

from elmolite.checkpoint import Checkpoint, convert
from elmolite.cli.main import main
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.formats.allennlp import write_options

LEGACY = SHARED / "legacy"
SENTENCES = [["The", "play", "."], [], ["naïve", "東京", "x" * 60, "The"], ["a"]]

VARIANTS = {
    "as published": {},
    "261 characters": {"cnn": {"n_characters": 261}},
    "no skip connections": {"lstm": {"use_skip_connections": False}},
    "skip connections not named": {"lstm": {"use_skip_connections": None}},
    "no highway": {"cnn": {"n_highway": 0}},
    "tanh": {"cnn": {"activation": "tanh"}},
    "no projection": {"lstm": {"dim": 6}},
    "no projection of tokens": {"lstm": {"projection_dim": 12}},
    "one layer": {"lstm": {"n_layers": 1}},
    "three layers": {"lstm": {"n_layers": 3}},
    "no clips": {"lstm": {"cell_clip": None, "proj_clip": None}},
    "clips of 0": {"lstm": {"cell_clip": 0, "proj_clip": 0}},
    "width not named": {"cnn": {"max_characters_per_token": None, "n_characters": None}},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_vectors_are_those_of_the_definition_and_a_round_trip_is_bit_exact(tmp_path, variant):
    folder = write_bilm_tf(tmp_path / "old", **variant)
    elmo = ELMo.from_pretrained(folder)
    assert_same(elmo, read_bilm_tf(folder / "options.json", folder / "weights.hdf5"), SENTENCES)
    convert(folder, tmp_path / "new")
    convert(tmp_path / "new", tmp_path / "back")
    before, after = (arrays_of(each / "weights.hdf5") for each in (folder, tmp_path / "back"))
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array.view(np.uint32), after[name].view(np.uint32), err_msg=name)


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


BAD_OPTIONS = {
    "no dim": ('"dim": 8, ', "", "'lstm': 'dim' is missing; expected int"),
    "dim is text": ('"dim": 8', '"dim": "8"', "'dim' is \"8\"; expected int"),
    "no characters": ('"char_cnn"', '"cnn"', "'char_cnn' is missing: models without a character encoder"),
    "activation": ('"relu"', '"gelu"', "activation must be relu or tanh, got 'gelu'"),
    "characters": ("262", "1000", "'n_characters' is 1000; expected 261 or 262"),
    "width": ("50", "20", "'max_characters_per_token' is 20; expected 50"),
    "another size": ('"dim": 8', '"dim": 9', r"LSTMCell/W_0' is float32 \(12, 32\); expected float32 \(12, 36\)"),
    "a layer more": ('"n_layers": 2', '"n_layers": 3', "Cell2/LSTMCell/W_0' is missing"),
    "a layer less": ('"n_layers": 2', '"n_layers": 1', "unexpected 'RNN_0/RNN/MultiRNNCell/Cell1/LSTMCell/B' for a"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_invalid_options_are_named(tmp_path, old, new, message):
    folder = write_bilm_tf(tmp_path / "old")
    options = (folder / "options.json").read_text()
    assert options.count(old) == 1
    (folder / "options.json").write_text(options.replace(old, new))
    with pytest.raises(InputError, match=message):
        ELMo.from_pretrained(folder)


def replaced(**dataset):
    """Replace an array; without arguments, remove it."""

    def change(path):
        with h5py.File(path, "a") as file:
            del file["CNN/b_cnn_0"]
            if dataset:
                file.create_dataset("CNN/b_cnn_0", **dataset)

    return change


def linked(path):
    with h5py.File(path, "a") as file:
        del file["CNN/b_cnn_0"]
        file["CNN/b_cnn_0"] = h5py.ExternalLink("other.h5", "x")


BAD_WEIGHTS = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:200]), "not a readable HDF5 file"),
    "no array": (replaced(), r"'CNN/b_cnn_0' is missing; expected an array \(3,\)"),
    "no file": (lambda path: path.unlink(), "expected a file named .*weights.hdf5 or model.hdf5, found none"),
    "external link": (linked, "weights.hdf5: 'CNN/b_cnn_0' is a soft or external link"),
    "external data": (
        replaced(shape=(3,), dtype="f4", external=[("other.h5", 0, 12)]),
        "weights.hdf5: 'CNN/b_cnn_0' is stored outside of the file or with an unsupported filter",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_invalid_weights_are_named(tmp_path, change, message):
    folder = write_bilm_tf(tmp_path / "old")
    change(folder / "weights.hdf5")
    with pytest.raises(InputError, match=message):
        ELMo.from_pretrained(folder)


def test_compressed_arrays_and_other_float_types_are_read(tmp_path):
    folder = write_bilm_tf(tmp_path / "old")
    path = folder / "weights.hdf5"
    arrays = arrays_of(path)
    expected = ELMo.from_pretrained(folder).embed(SENTENCES)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array.astype(np.float64), compression="gzip", shuffle=True, fletcher32=True)
        file["softmax/W"] = np.zeros(3)
    for a, b in zip(ELMo.from_pretrained(folder).embed(SENTENCES), expected, strict=True):
        np.testing.assert_array_equal(a, b)


NOT_EXPORTABLE = {
    "words": ({"input": "words"}, "word-input models"),
    "gru": ({"cell": "gru", "cell_clip": None, "projection_clip": None}, "gru cells"),
    "forget bias": ({"forget_bias": 0.0}, "a forget bias of 0.0"),
    "square projection": ({"cell_size": 8, "projection_size": 8}, "projected output with cell_size=projection_size"),
}


@pytest.mark.parametrize(("changes", "message"), NOT_EXPORTABLE.values(), ids=NOT_EXPORTABLE)
def test_unsupported_models_are_not_exported(changes, message):
    with pytest.raises(InputError, match=f"cannot export to bilm-tf HDF5: {message}"):
        write_options(small_config(**changes))


def test_export_needs_a_new_folder(tmp_path, model_folder):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").touch()
    with pytest.raises(InputError, match="exists already"):
        convert(model_folder, tmp_path / "a")
    with pytest.raises(InputError, match="`overwrite` and `tokenizer` are for conversion to a model folder"):
        convert(model_folder, tmp_path / "out", overwrite=True)
    Checkpoint.from_pretrained(model_folder).save_hdf5(tmp_path / "out")
    assert (tmp_path / "out" / "vocab.txt").is_file()


@needs_shared
def test_the_original_layers_from_zero_state():
    folder = LEGACY / "zero_state_tiny"
    elmo = ELMo.from_pretrained(folder)
    sentences = [line.split() for line in (folder / "sentences.txt").read_text(encoding="utf-8").splitlines()]
    expected = np.load(folder / "layers.npz")
    assert len(expected) == len(sentences)
    for number, layers in enumerate(elmo.embed(sentences)):
        np.testing.assert_allclose(layers, expected[f"s{number}"], rtol=0, atol=1e-5)


@needs_shared
@pytest.mark.parametrize(
    ("name", "file"), [("allennlp_fixture", "sentences.json"), ("bilm_tf_fixture", "lm_embeddings_sentences.json")]
)
def test_the_original_top_layer_with_carried_state(name, file):
    elmo = ELMo.from_pretrained(LEGACY / name)
    lists = json.loads((LEGACY / name / file).read_text())
    expected = [h5py.File(LEGACY / name / f"lm_embeddings_{k}.hdf5") for k in range(3)]
    for batch in range(10):
        sentences = [each[batch].split() for each in lists]
        for vectors, their in zip(elmo.embed(sentences, layers="top", carry_state=True), expected, strict=True):
            np.testing.assert_allclose(vectors, np.concatenate(list(their[str(batch)]), axis=1), rtol=0, atol=1e-5)


def test_commands_take_earlier_models(tmp_path, capsys):
    folder = write_bilm_tf(tmp_path / "old")
    (tmp_path / "a.txt").write_text("yes a b\nno b c\n" * 5)
    embed = ["embed", str(folder), "--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "v.npz")]
    assert main(embed) == 0
    assert main(["info", str(folder)]) == 0
    assert "3 layers of 12" in capsys.readouterr().out
    for command in (
        ["finetune", "classify", f"--encoder={folder}", f"--train={tmp_path / 'a.txt'}", f"--out={tmp_path / 'o'}"],
        ["pretrain", "--init-from", str(folder), "--corpus", "c", "--out", str(tmp_path / "o")],
    ):
        assert main(command) == 2
        assert f"is an earlier model; convert it first: elmolite convert {folder}" in capsys.readouterr().err
    convert = ["convert", str(folder), str(tmp_path / "new")]
    assert main([*convert, "--tokenizer", "english"]) == 0
    assert not ELMo.from_pretrained(tmp_path / "new").tokenizer.is_whitespace
    assert main(convert) == 2
    assert main([*convert, "--overwrite"]) == 0
