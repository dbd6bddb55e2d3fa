"""The points that a run can be resumed from, in its folder: each a file with its checksum, the last few are kept."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from elmolite.errors import InputError
from elmolite.pretraining import distributed
from elmolite.utils import files

FOLDER = "points"
FORMAT_VERSION = 1


class SavedPoints:
    """The files ``points/step-000001200.ckpt`` and so on of a run."""

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER

    def path_at(self, step: int) -> Path:
        """Return where the point of a step is, or would be."""
        return self.folder / f"step-{step:09}.ckpt"

    def paths(self) -> list[Path]:
        """Return the points that are there, the latest first."""
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)

    def latest_step(self) -> int | None:
        """Return the step of the latest point; ``None`` where there is none."""
        return next((int(path.stem.removeprefix("step-")) for path in self.paths()), None)

    def latest_good(self) -> Path:
        """Return the latest point that is whole, and say which later ones are not.

        :raises InputError: there is none.
        """
        damaged = []
        for path in self.paths():
            try:
                files.read_checksummed(path)
            except InputError as error:
                damaged.append(str(error))
                continue
            if distributed.is_first():
                for message in damaged:
                    print(f"{message}: going on from {path.name}", file=sys.stderr)
            return path
        if damaged:
            raise InputError(f"no point to resume from is whole: {'; '.join(damaged)}")
        raise InputError(f"{self.folder.parent}: nothing to resume (no {FOLDER}/step-*.ckpt); start without --resume")

    def remove_all_but(self, n_last: int, *, step: int) -> None:
        """Keep the latest points up to the step that was just saved; a later one is what a resumed run could not use.

        :raises InputError: one cannot be removed.
        """
        kept = [path for path in self.paths() if path <= self.path_at(step)][:n_last]
        for path in self.paths():
            if path in kept:
                continue
            try:
                path.unlink()
            except OSError as error:
                raise InputError(f"{path}: cannot be removed: {error.strerror or error}") from error


def write(path: Path, point: dict[str, Any]) -> None:
    """Write a point whole or not at all; ``torch.load`` can read it too, but takes no notice of the checksum.

    :raises InputError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format_version": FORMAT_VERSION, **point}, buffer)
    files.write_checksummed(path, buffer.getbuffer())


def read(path: Path) -> dict[str, Any]:
    """Return the tensors and plain values of a point, on the CPU.

    :raises InputError: it is damaged, or holds anything else.
    """
    try:
        content = io.BytesIO(files.read_checksummed(path))
        _check_archive(content)
        found = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch comes upon in a file that is none
        raise InputError(
            f"{path}: not a point to resume from: {(str(error) or repr(error)).splitlines()[0]}"
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: not a point to resume from: it holds a {type(found).__name__}")
    if (version := found.pop("format_version", None)) != FORMAT_VERSION:
        raise InputError(f"{path}: format_version {version!r}; this version of elmolite reads {FORMAT_VERSION}")
    return found


def _check_archive(content: io.BytesIO) -> None:
    """Refuse what torch would take more memory for than the file has bytes: records that are compressed.

    :raises ValueError: they are.
    :raises zipfile.BadZipFile: it is no archive; those that torch wrote before 1.6 are not.
    """
    with zipfile.ZipFile(content) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise ValueError("its records are compressed")
    content.seek(0)
