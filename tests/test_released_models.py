import shutil

import numpy as np
import pytest

from elmolite import released_models
from elmolite.checkpoint import Checkpoint
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.released_models import model_folder


@pytest.fixture(scope="module")
def mini_en():
    return ELMo.from_pretrained("mini-en")


def vector(elmo, tokens, word):
    found = elmo.embed([tokens.split()], layers="top")[0][tokens.split().index(word)]
    return found / np.linalg.norm(found)


@pytest.mark.parametrize(
    ("word", "sentence", "same", "other"),
    [
        ("play", "The children play in the garden .", "The boys play in the street .", "The play was a success ."),
        ("cold", "It was a cold night .", "They spent a cold winter there .", "He had caught a cold ."),
        ("miss", "I miss you very much .", "They miss him every day .", "He did not hit , it was a miss ."),
    ],
)
def test_mini_en_tells_senses_apart(mini_en, word, sentence, same, other):
    query, near, far = (vector(mini_en, text, word) for text in (sentence, same, other))
    assert query @ near > query @ far + 0.05


def test_mini_en_is_small_and_has_its_card():
    folder = model_folder("mini-en")
    assert (folder / "model.safetensors").stat().st_size < 8e6
    assert "## Data and licences" in (folder / "README.md").read_text(encoding="utf-8")
    assert Checkpoint.from_pretrained("mini-en").softmax.vocabulary_size == 30_000


def test_the_embedder_of_mini_en_needs_no_softmax(tmp_path, mini_en):
    mini_en.save_pretrained(tmp_path / "model")
    assert Checkpoint.from_pretrained(tmp_path / "model").softmax is None


@pytest.fixture
def released(tmp_path, monkeypatch, model_folder):
    shutil.copytree(model_folder, tmp_path / "released" / "mini-xx")
    monkeypatch.setattr(released_models, "_FOLDERS", (tmp_path / "released",))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_is_enough(released):
    assert model_folder("mini-xx") == released / "released" / "mini-xx"
    assert Checkpoint.from_pretrained("mini-xx").bilm.n_parameters > 0


def test_a_folder_on_disk_goes_first(released):
    (released / "mini-xx").mkdir()
    assert model_folder("mini-xx").resolve() == released / "mini-xx"


@pytest.mark.parametrize("name", ["mini-xy", "./mini-xx", "no/such/mini-xx"])
def test_what_is_not_there_is_named(released, name):
    with pytest.raises(InputError, match=f"{name}: no such model folder; did you mean 'mini-xx'"):
        model_folder(name)
