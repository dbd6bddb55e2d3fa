"""Detection of earlier formats, whether the user names a folder, an archive or files."""

import shutil
import zipfile

import pytest
from helpers.legacy_numpy import assert_same, read_bilm_tf, read_many_langs, write_bilm_tf, write_many_langs

from elmolite.checkpoint import Checkpoint
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.formats import loading

SENTENCES = [["The", "play", "."]]
NAMES = {
    "options.json and weights.hdf5": ("options.json", "weights.hdf5"),
    "AllenNLP": ("elmo_2x4096_512_2048cnn_2xhighway_options.json", "elmo_2x4096_512_2048cnn_2xhighway_weights.hdf5"),
    "the NLPL repository": ("options.json", "model.hdf5"),
    "another": ("my_options.json", "my.h5"),
    "capitals": ("OPTIONS.JSON", "WEIGHTS.HDF5"),
    "nothing known": ("elmo.cfg", "weights.hdf5"),
}


def zipped(folder, path, inside=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, inside + file.name)
    return path


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_a_pair_is_found_by_its_folder_an_archive_or_either_file(tmp_path, names):
    folder = write_bilm_tf(tmp_path / "old", names=names)
    (folder / "vocab.txt").write_text("<S>\n</S>\n<UNK>\nThe\n")
    options, weights = (folder / name for name in names)
    model = read_bilm_tf(options, weights)
    other = tmp_path / "elsewhere" / "w.hdf5"
    other.parent.mkdir()
    shutil.copy(weights, other)
    sources = [(options,), (options, weights), (options, other)]
    if names[0] != "elmo.cfg":
        archives = zipped(folder, tmp_path / "a.zip"), zipped(folder, tmp_path / "144", "144/")
        sources += [(folder,), (weights,), *((archive,) for archive in archives)]
    for source in sources:
        assert_same(ELMo.from_pretrained(*source), model, SENTENCES)
        with pytest.raises(InputError, match="is an earlier model"):
            loading.refuse_earlier_model(source[0])


def test_many_langs_in_an_archive(tmp_path):
    folder = write_many_langs(tmp_path / "old")
    assert_same(ELMo.from_pretrained(zipped(folder, tmp_path / "a.zip")), read_many_langs(folder), [["bad", "e"]])


def test_two_models_in_one_folder_are_told_apart_by_their_beginnings(tmp_path):
    for seed, name in enumerate(("one_", "two_")):
        write_bilm_tf(tmp_path, names=(f"{name}options.json", f"{name}weights.hdf5"), seed=seed)
    with pytest.raises(InputError, match=r"found several: one_weights.hdf5, two_weights.hdf5; name one"):
        ELMo.from_pretrained(tmp_path)
    for name in ("one_", "two_"):
        files = [tmp_path / f"{name}{half}" for half in ("options.json", "weights.hdf5")]
        for half in files:
            assert_same(ELMo.from_pretrained(half), read_bilm_tf(*files), SENTENCES)


def test_a_model_folder_is_not_taken_for_another_format(tmp_path, model_folder):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / "vectors.h5").touch()
    (folder / "char.dic").touch()
    assert Checkpoint.from_pretrained(folder).bilm.n_parameters


@pytest.mark.parametrize("names", [["options.json", "nowhere"], ["nowhere", "weights.hdf5"], ["nowhere"]])
def test_missing_files_are_named(tmp_path, names):
    write_bilm_tf(tmp_path)
    with pytest.raises(InputError, match="nowhere: no such file"):
        loading.load(*(tmp_path / name for name in names))


def test_other_files_in_an_archive_do_not_matter(tmp_path):
    folder = write_bilm_tf(tmp_path / "old")
    (tmp_path / "empty").mkdir()
    archive = zipped(folder, tmp_path / "a.zip", "144/")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("README.md", "a model")
        opened.writestr("__MACOSX/._x", "x")
    assert ELMo.from_pretrained(archive).n_layers == 3
    with pytest.raises(InputError, match=r"expected one folder with a model \(ELMoForManyLangs, AllenNLP\), found 0"):
        loading.load(zipped(tmp_path / "empty", tmp_path / "b.zip"))
