"""Model names: a folder on disk, a model released with the package, or a model of the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from elmolite.errors import InputError, nearest
from elmolite.utils import folders

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_RELEASED = (
    Path(__file__).parent / "checkpoints",  # as installed
    Path(__file__).parents[1] / "checkpoints",  # in a clone
)


def released_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted({path.parent.name for folder in _RELEASED for path in folder.glob("*/config.json")})


def released_folder(name: str | Path, manifest: str) -> Path | None:
    """Return the folder of a model that comes with the package, or ``None``.

    :param manifest: file that tells a language model from a trained task.
    """
    found = (folder / name for folder in _RELEASED if Path(name).name == str(name))
    return next((path for path in found if (path / manifest).is_file()), None)


def model_folder(name: str | Path) -> Path:
    """Resolve a model name to its folder: on disk, else released with the package, else of the Hugging Face Hub.

    :param name: a path, the name of a released model, or ``owner/model`` of the Hub.
    """
    path = folders.resolve_committed(Path(name))
    if path.is_dir():
        return path
    if (released := released_folder(name, "config.json")) is not None:
        return released
    if HUB_NAME.fullmatch(str(name)) and not path.parent.is_dir():
        return download(str(name))
    names = released_models()
    raise InputError(f"{name}: no such model folder{nearest(str(name), names) if names else ''}")


def download(name: str) -> Path:
    """Download a model of the Hub and return its folder in the cache of ``huggingface_hub``.

    :param name: ``owner/model``.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except Exception as error:  # of huggingface_hub or its network library
        raise InputError(f"{name}: no such folder, and not on the Hugging Face Hub: {_reason(error)}") from error


def upload(folder: Path, name: str, *, is_private: bool, message: str) -> str:
    """Upload a model folder to the Hub with the token of ``hf auth login``, and return its address.

    :param name: ``owner/model``; the repository is created if needed.
    :param message: of the commit.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(name, private=is_private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    except Exception as error:  # of huggingface_hub or its network library
        raise InputError(f"{name}: upload to the Hugging Face Hub failed: {_reason(error)}") from error
    return str(address)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
