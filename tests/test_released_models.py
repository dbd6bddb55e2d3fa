import shutil

import pytest

from elmolite import released_models
from elmolite.checkpoint import Checkpoint
from elmolite.errors import InputError
from elmolite.released_models import model_folder


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


@pytest.mark.parametrize("name", ["mini-xy", "./mini-xx", "no/mini-xx"])
def test_what_is_not_there_is_named(released, name):
    with pytest.raises(InputError, match=f"{name}: no such model folder; did you mean 'mini-xx'"):
        model_folder(name)
