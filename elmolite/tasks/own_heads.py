"""A head that a user wrote, named on a command line as ``FILE.py:NAME``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from elmolite.errors import InputError, nearest
from elmolite.tasks.heads import HeadFactory


def load_head(reference: str) -> HeadFactory:
    """Run a Python file, and return the class or function of a name in it.

    :param reference: ``FILE.py:NAME``.
    :raises InputError: there is no such file or name, or the file does not run.
    """
    path, _, name = reference.rpartition(":")
    if not path or not name:
        raise InputError(f"--custom-head {reference}: expected FILE.py:NAME, a class or function that makes the head")
    if not Path(path).is_file():
        raise InputError(f"--custom-head {reference}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"_own_head_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"--custom-head {reference}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"--custom-head {reference}: {path} does not run: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        valid = [each for each, value in vars(module).items() if callable(value)]
        raise InputError(f"--custom-head {reference}: {path} has no class or function {name!r}{nearest(name, valid)}")
    make_head: HeadFactory = found
    return make_head
