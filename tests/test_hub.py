"""Model names: released models, folders, and the Hugging Face Hub with its two library calls replaced."""

import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.utils import LocalEntryNotFoundError

from elmolite import hub as hub_module
from elmolite.checkpoint import Checkpoint
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.hub import model_folder as find_model
from elmolite.tasks.checkpoint import TaskCheckpoint


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


def test_mini_en_upos_tags_a_word_by_its_context():
    tagger = TaskCheckpoint.from_pretrained("mini-en-upos")
    (verb, noun) = tagger.predict(["The children play in the park.", "The play was long."])
    assert verb.labels == ("DET", "NOUN", "VERB", "ADP", "DET", "NOUN", "PUNCT")
    assert noun.labels == ("DET", "NOUN", "AUX", "ADJ", "PUNCT")
    with pytest.raises(InputError, match="mini-en-upos: a fine-tuned task, not a language model"):
        ELMo.from_pretrained("mini-en-upos")


@pytest.fixture
def released(tmp_path, monkeypatch, model_folder):
    shutil.copytree(model_folder, tmp_path / "checkpoints" / "mini-xx")
    monkeypatch.setattr(hub_module, "_ROOTS", (tmp_path,))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_released_model_is_found_by_name_after_a_folder(released):
    assert find_model("mini-xx") == released / "checkpoints" / "mini-xx"
    assert Checkpoint.from_pretrained("mini-xx").bilm.n_parameters > 0
    (released / "mini-xx").mkdir()
    assert find_model("mini-xx").resolve() == released / "mini-xx"


@pytest.mark.parametrize("name", ["mini-xy", "./mini-xx", "no/such/mini-xx"])
def test_an_unknown_name_is_corrected(released, name):
    with pytest.raises(InputError, match=f"{name}: no such model folder; did you mean 'mini-xx'"):
        find_model(name)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that is a folder."""
    root = tmp_path / "hub"

    class Api:
        def create_repo(self, name, *, private, exist_ok):
            if name.startswith("you/"):
                raise PermissionError("403 Forbidden\nmore of it")
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


def test_upload_and_download(hub, model_folder):
    elmo = ELMo.from_pretrained(model_folder)
    assert elmo.push_to_hub("me/elmo", is_private=True, message="first") == "https://hub/me/elmo"
    assert ((hub / "me/elmo/.private").read_text(), (hub / "me/elmo/.message").read_text()) == ("True", "first")
    again = ELMo.from_pretrained("me/elmo")
    for a, b in zip(again.embed(["a b"]), elmo.embed(["a b"]), strict=True):
        np.testing.assert_array_equal(a, b)
    card = huggingface_hub.ModelCard.load(hub / "me/elmo/README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("elmolite", "feature-extraction")
    assert 'ELMo.from_pretrained("me/elmo")' in card.text


def test_the_softmax_of_unchanged_weights_is_uploaded(hub, model_folder):
    elmo = ELMo.from_pretrained(model_folder)
    elmo.tokenizer = SentenceTokenizer.whitespace()
    elmo.push_to_hub("me/same")
    same = Checkpoint.from_pretrained("me/same")
    assert same.softmax is not None
    assert same.tokenizer.is_whitespace
    next(elmo.bilm.parameters()).mul_(2)
    elmo.push_to_hub("me/changed")
    assert Checkpoint.from_pretrained("me/changed").softmax is None


def test_errors_of_the_hub_are_one_line(hub, model_folder):
    with pytest.raises(
        InputError, match=r"you/other: no such folder, and loading from the Hugging Face Hub failed: nothing .*k$"
    ):
        ELMo.from_pretrained("you/other")
    with pytest.raises(InputError, match=r"you/other: upload to the Hugging Face Hub failed: 403 Forbidden$"):
        Checkpoint.from_pretrained(model_folder).push_to_hub("you/other")


def test_a_folder_goes_before_the_hub_and_a_wrong_path_asks_for_nothing(hub, tmp_path, model_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, "me/elmo")
    assert find_model("me/elmo") == Path("me/elmo")
    with pytest.raises(InputError, match="me/elmo2: no such model folder"):  # me/ is a folder here
        ELMo.from_pretrained("me/elmo2")
