"""The Hugging Face Hub, with its library's two doors replaced: what is asked of it, and what becomes of its answers."""

import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.utils import LocalEntryNotFoundError

from elmolite.checkpoint import Checkpoint
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.released_models import model_folder as find_model


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that is a folder."""
    root = tmp_path / "hub"

    class Api:
        def create_repo(self, name, *, private, exist_ok):
            (root / name).mkdir(parents=True, exist_ok=exist_ok)
            (root / name / ".private").write_text(str(private))
            return f"https://hub/{name}"

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)
            (root / repo_id / ".message").write_text(commit_message)

    def snapshot_download(name):
        if not (root / name).is_dir():
            raise LocalEntryNotFoundError("nothing in the cache, and no network\nmore of it")
        return str(root / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return root


def test_to_the_hub_and_from_it(hub, model_folder):
    elmo = ELMo.from_pretrained(model_folder)
    assert elmo.push_to_hub("me/elmo", is_private=True, message="first") == "https://hub/me/elmo"
    assert ((hub / "me/elmo/.private").read_text(), (hub / "me/elmo/.message").read_text()) == ("True", "first")
    again = ELMo.from_pretrained("me/elmo")
    for a, b in zip(again.embed(["a b"]), elmo.embed(["a b"]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert Checkpoint.from_pretrained("me/elmo").softmax is None


def test_what_the_hub_does_not_have_is_said_in_one_line(hub):
    with pytest.raises(InputError, match=r"you/other: no such folder here, and the .* Hub has none to give: nothing"):
        ELMo.from_pretrained("you/other")


def test_a_folder_on_disk_goes_first_and_a_wrong_path_does_not_ask(hub, tmp_path, model_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, "me/elmo")
    assert find_model("me/elmo") == Path("me/elmo")
    with pytest.raises(InputError, match="me/elmo2: no such model folder"):  # me/ is a folder here
        ELMo.from_pretrained("me/elmo2")
