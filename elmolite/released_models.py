"""Where a model lies: a folder that the user names, a model that comes with the package, or one of the hub."""

from __future__ import annotations

import re
from pathlib import Path

from elmolite.errors import InputError, nearest
from elmolite.utils import folders

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_FOLDERS = (
    Path(__file__).parent / "checkpoints",  # as installed
    Path(__file__).parents[1] / "checkpoints",  # in a clone
)


def released_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted({path.parent.name for folder in _FOLDERS for path in folder.glob("*/config.json")})


def model_folder(name: str | Path) -> Path:
    """Return the folder of a model: one on disk, a released one, or one of the Hugging Face Hub, in this order.

    :param name: a path, the name of a released model, or ``owner/model`` of the hub.
    :raises InputError: there is none; the message names the released models.
    """
    path = folders.resolve_committed(Path(name))
    if path.is_dir():
        return path
    for folder in _FOLDERS:
        if path.name == str(name) and (folder / path / "config.json").is_file():
            return folder / path
    if HUB_NAME.fullmatch(str(name)) and not path.parent.is_dir():
        from elmolite.hub import download

        return download(str(name))
    released = released_models()
    hint = nearest(str(name), released) if released else ""
    raise InputError(f"{name}: no such model folder{hint}")
