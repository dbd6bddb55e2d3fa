"""Models on the Hugging Face Hub: from it, and to it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from elmolite.checkpoint import Checkpoint
from elmolite.errors import InputError


def download(name: str) -> Path:
    """Return the folder of a model of the hub, in the cache of ``huggingface_hub``.

    :param name: ``owner/model``.
    :raises InputError: there is no such model, or the hub cannot be reached and the cache has none.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except Exception as error:  # whatever its network library raises
        reason = _reason(error)
        raise InputError(f"{name}: no such folder here, and the Hugging Face Hub has none to give: {reason}") from error


def push(checkpoint: Checkpoint, name: str, *, is_private: bool = False, message: str | None = None) -> str:
    """Write a model to the hub, as its owner, who is logged in (``hf auth login``).

    :param name: ``owner/model``; it is made where it is not there.
    :param message: of the commit.
    :returns: its address.
    :raises InputError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with TemporaryDirectory() as folder:
        checkpoint.save_pretrained(Path(folder) / "model")
        try:
            address = api.create_repo(name, private=is_private, exist_ok=True)
            api.upload_folder(
                repo_id=name, folder_path=Path(folder) / "model", commit_message=message or "A model of elmolite"
            )
        except Exception as error:  # whatever its network library raises
            raise InputError(f"{name}: not written to the Hugging Face Hub: {_reason(error)}") from error
    return str(address)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
