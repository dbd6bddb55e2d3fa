"""Where a model lies: a folder that the user names, or one of the models that come with the package."""

from __future__ import annotations

from pathlib import Path

from elmolite.errors import InputError
from elmolite.suggest import nearest

_FOLDERS = (
    Path(__file__).parent / "checkpoints",  # as installed
    Path(__file__).parents[1] / "checkpoints",  # in a clone
)


def released_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted({path.parent.name for folder in _FOLDERS for path in folder.glob("*/config.json")})


def model_folder(name: str | Path) -> Path:
    """Return the folder of a model; one that is there on disk goes before a released one of the same name.

    :raises InputError: there is neither; the message names the released models.
    """
    path = Path(name)
    if path.is_dir():
        return path
    for folder in _FOLDERS:
        if path.name == str(name) and (folder / path / "config.json").is_file():
            return folder / path
    released = released_models()
    hint = nearest(str(name), released) if released else ""
    raise InputError(f"{name}: no such model folder{hint}")
