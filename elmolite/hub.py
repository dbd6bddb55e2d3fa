"""Model names: a folder on disk, a model released with the package, or a model of the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from elmolite.data import SUMMARY_FILE as CORPUS_MANIFEST
from elmolite.errors import InputError, nearest
from elmolite.utils import folders

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
MODEL_MANIFEST, TASK_MANIFEST, EMBEDDING_MANIFEST = "config.json", "task.json", "embedding.json"
"""Files that tell the kind of a folder, with that of a corpus."""
RUN_FILE, RUN_MODEL = "pretraining.json", "model"
"""Settings of a pretraining run, and the folder of the model, in the folder of a run."""
METRICS_FILE, COMPARISON_FILE = "metrics.json", "comparison.json"
"""Settings and scores in the folder of a fine-tuning run, and in that of several runs."""
_KINDS = {
    TASK_MANIFEST: ("a fine-tuned task", "use elmolite predict or test, or TaskCheckpoint"),
    MODEL_MANIFEST: ("a language model", "train a task on it with elmolite finetune"),
    CORPUS_MANIFEST: ("a corpus", "train a language model on it with elmolite pretrain"),
    EMBEDDING_MANIFEST: ("vectors", "read them with EmbeddingFolder"),
    COMPARISON_FILE: ("a comparison of runs", "choose one of the runs in it"),
}
"""Manifest of a folder -> its kind, and what to do with it."""
_ROOTS = (Path(__file__).parents[1], Path(__file__).parent)
"""Folders of ``checkpoints`` and ``recipes`` in a clone, and as installed."""


def released_models(manifest: str = MODEL_MANIFEST) -> dict[str, Path]:
    """Return the folders of the language models, or of the fine-tuned tasks, that come with the package, by name."""
    return {path.parent.name: path.parent for path in _bundled(f"checkpoints/*/{manifest}")}


def recipes(command: str) -> dict[str, Path]:
    """Return the recipes that come with the package for a command, by name."""
    return {path.stem: path for path in _bundled(f"recipes/{command}/*.yaml")}


def _bundled(pattern: str) -> list[Path]:
    return [path for root in _ROOTS for path in sorted(root.glob(pattern))]


def model_folder(name: str | Path) -> Path:
    """Resolve a model name to its folder: on disk, else released with the package, else of the Hugging Face Hub.

    :param name: a path, the name of a released model, or ``owner/model`` of the Hub.
    :raises InputError: there is no such folder, or it holds something else; the message says what.
    """
    path = folders.resolve_committed(Path(name))
    if path.is_dir():
        if not (path / MODEL_MANIFEST).exists():
            _refuse_other_kind(path, expected="a language model", but=MODEL_MANIFEST)
        return path
    if (released := released_models().get(str(name))) is not None:
        return released
    if str(name) in released_models(TASK_MANIFEST):
        raise InputError(f"{name}: a fine-tuned task, not a language model: {_KINDS[TASK_MANIFEST][1]}")
    if HUB_NAME.fullmatch(str(name)) and not path.parent.is_dir():
        return download(str(name))
    raise InputError(f"{name}: no such model folder{nearest(str(name), released_models())}")


def find_task(name: str | Path) -> Path | None:
    """Return the folder of a fine-tuned task, as :func:`task_folder`, or ``None`` if there is no such task."""
    path = folders.resolve_committed(Path(name))
    for folder in (path, folders.resolve_committed(path / RUN_MODEL)):
        if (folder / TASK_MANIFEST).exists():
            return folder
    return None if path.is_dir() else released_models(TASK_MANIFEST).get(str(name))


def task_folder(name: str | Path) -> Path:
    """Resolve the name of a fine-tuned task to its folder: on disk, else released with the package.

    :param name: a task folder, the folder of the run that made it, or the name of a released task.
    :raises InputError: there is no such folder, or it holds something else; the message says what.
    """
    if (found := find_task(name)) is not None:
        return found
    path = folders.resolve_committed(Path(name))
    if path.is_dir():
        _refuse_other_kind(path, expected="a fine-tuned task", but=TASK_MANIFEST)
        return path
    if str(name) in released_models():
        raise InputError(f"{name}: a language model, not a fine-tuned task: {_KINDS[MODEL_MANIFEST][1]}")
    raise InputError(f"{name}: no such task folder{nearest(str(name), released_models(TASK_MANIFEST))}")


def _refuse_other_kind(folder: Path, *, expected: str, but: str) -> None:
    """Raise InputError if a folder is of a known kind, other than that of the manifest ``but``."""
    if (folder / RUN_FILE).is_file() and not (folder / RUN_MODEL).exists():
        resume = f"elmolite pretrain --out {folder} --resume"
        raise InputError(f"{folder}: the folder of a pretraining run that has no model yet; to continue it: {resume}")
    for manifest, (kind, advice) in _KINDS.items():
        for path in (folder, folder / RUN_MODEL):
            if manifest == but and (path / manifest).is_file():
                raise InputError(f"{folder}: the folder of a run, not {expected}: its model is {path}")
            if (path / manifest).is_file():
                raise InputError(f"{folder}: {kind}, not {expected}: {advice}")


def download(name: str) -> Path:
    """Download a model of the Hub and return its folder in the cache of ``huggingface_hub``.

    :param name: ``owner/model``.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return Path(snapshot_download(name))
    except RepositoryNotFoundError as error:
        raise InputError(f"{name}: no such folder, and no such model on the Hugging Face Hub") from error
    except Exception as error:  # of huggingface_hub or its network library
        raise InputError(
            f"{name}: no such folder, and loading from the Hugging Face Hub failed: {_reason(error)}"
        ) from error


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
