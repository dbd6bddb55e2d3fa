"""What a run of pretraining was started with: recorded in its folder, and held against what resumes or joins it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from elmolite.checkpoint import CONFIG_FILE
from elmolite.errors import InputError
from elmolite.hub import model_folder
from elmolite.pretraining import distributed
from elmolite.pretraining.config import RUN_FILE, RUN_VERSION
from elmolite.pretraining.saved_points import SavedPoints
from elmolite.pretraining.setup import Setup
from elmolite.utils import files

Record = dict[str, dict[str, Any]]


def make(setup: Setup, init_from: str | Path | None) -> Record:
    """Return the record of a run, as it reads back from JSON."""
    record: Record = {
        "model": asdict(setup.model.bilm.config),
        "training": asdict(setup.config),
        "softmax": setup.softmax.config(),
        "corpus": {"tokens": setup.corpus.train.n_tokens, "sha256": setup.corpus.fingerprint()},
    }
    if init_from is not None:
        record["init_from"] = {"sha256": files.file_entry(model_folder(init_from) / CONFIG_FILE)["sha256"]}
    return json.loads(json.dumps(record))  # type: ignore[no-any-return]


def softmax_of_run(out: Path) -> dict[str, Any]:
    """Return the description of the softmax of the run in a folder.

    :raises InputError: there is no run, or what it was started with is damaged.
    """
    description = files.read_manifest(out / RUN_FILE, kind="run", version=RUN_VERSION).get("softmax")
    if not isinstance(description, dict):
        raise InputError(f"{out / RUN_FILE}: does not say which softmax the run has")
    return description


def claim(out: Path, record: Record, corpus: Path, *, resume: bool) -> Record:
    """Write the record into the folder of the run, or hold a resumed run against the record there.

    :param corpus: the folder, so that a resumed run finds it.
    :returns: the record of the run.
    :raises InputError: there is a run already, or it had another configuration.
    """
    if not distributed.is_first():
        return record
    if not resume:
        if SavedPoints(out).paths():
            raise InputError(f"{out} holds a run already: say --resume to go on with it, or choose another folder")
        content = {"format_version": RUN_VERSION, **record, "corpus_folder": str(corpus.resolve())}
        files.write_manifest(out / RUN_FILE, content)
        return record
    earlier = files.read_manifest(out / RUN_FILE, kind="run", version=RUN_VERSION)
    for name, before, now in _differences(earlier, record):
        raise InputError(
            f"{out}: the run was started with {name} = {before!r}, now it is {now!r}; a run resumes only under its "
            "own configuration"
        )
    return {**record, "init_from": earlier["init_from"]} if "init_from" in earlier else record


def check_alike(record: Record) -> None:
    """Hold the record of each process against that of the first.

    :raises InputError: they were started with different settings or corpora.
    """
    first, *others = distributed.gather(record)
    for process, other in enumerate(others, 1):
        for name, expected, found in _differences(first, other):
            raise distributed.shared_error(
                f"process {process} has {name} = {found!r}, the first has {expected!r}: all need the same"
            )


def _differences(one: Record, other: Record) -> Iterator[tuple[str, Any, Any]]:
    """Give the name and both values of each field of the other record that differs in the one."""
    for part, fields in other.items():
        for key, value in fields.items():
            if (earlier := one.get(part, {}).get(key)) != value:
                yield f"{part}.{key}", earlier, value
