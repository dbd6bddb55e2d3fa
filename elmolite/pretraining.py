"""Pretraining: a prepared corpus -> a model folder."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from elmolite import files
from elmolite.bilm import BiLMConfig
from elmolite.checkpoint import CONFIG_FILE
from elmolite.errors import InputError
from elmolite.pretraining_config import RUN_FILE, PretrainingConfig
from elmolite.pretraining_data import PretrainingData
from elmolite.pretraining_module import PretrainingModule
from elmolite.pretraining_setup import Setup, set_up
from elmolite.training_callbacks import CsvLog, ResumePoint, TrainingLog, WholeFileIO

RESUME_FILE = "last.ckpt"
MODEL_FOLDER = "model"


def pretrain(
    config: PretrainingConfig,
    *,
    model: BiLMConfig,
    corpus: str | Path,
    out: str | Path,
    init_from: str | Path | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> Path:
    """Pretrain a bidirectional language model, as ``elmolite pretrain`` does.

    :param config: how to train; :func:`elmolite.load_recipe` reads it, and the sizes, from a file.
    :param model: sizes, for instance ``elmolite.bilm.mini()``.
    :param corpus: a prepared corpus.
    :param out: folder for the log, the point to resume from, and the model with the best perplexity.
    :param init_from: a model folder to start from (domain adaptation): same sizes, the corpus may have other words.
    :param resume: go on with an interrupted run in ``out``, under the same configuration.
    :returns: the model folder, ``out/model``.
    :raises InputError: the corpus is too small, ``init_from`` does not fit, or ``out`` holds another run.
    """
    out = Path(out)
    with quiet_lightning():
        setup = set_up(config, model=model, corpus=corpus, init_from=None if resume else init_from)
        setup.model.training = _claim(out, setup, init_from, resume=resume)
        module = PretrainingModule(setup.model.bilm, setup.softmax, config, setup.n_steps)
        point = ResumePoint(
            out / RESUME_FILE,
            out / MODEL_FOLDER,
            setup.model,
            setup.validation_interval,
            validates=setup.valid is not None,
        )
        log = TrainingLog(setup.n_steps, every=config.log_every_steps, show=show_progress)
        trainer = make_trainer(setup, out, loggers=_loggers(out, resume=resume), callbacks=[log, point])
        if show_progress and trainer.is_global_zero:
            print(setup.describe())
        _run(trainer, module, setup, point, resume_from=out / RESUME_FILE if resume else None)
    return out / MODEL_FOLDER


def _run(
    trainer: Trainer, module: PretrainingModule, setup: Setup, point: ResumePoint, resume_from: Path | None
) -> None:
    """Validate, train and validate."""
    source = PretrainingData(setup.train, setup.valid, setup.n_steps)
    if setup.valid is not None and resume_from is None:
        trainer.validate(module, source, verbose=False)
    try:
        trainer.fit(module, source, ckpt_path=resume_from and str(resume_from), weights_only=True)
    except SystemExit:  # Lightning's way out on Ctrl-C
        raise KeyboardInterrupt(f"interrupted; {point.describe()}") from None
    if point.saved_step != setup.n_steps:  # the end of the run is no multiple of the interval
        trainer.validate(module, source, verbose=False) if setup.valid is not None else point.save(trainer, module)


def _claim(out: Path, setup: Setup, init_from: str | Path | None, *, resume: bool) -> dict[str, Any]:
    """Record the run in its folder, or hold a resumed one against that record.

    :raises InputError: there is a run already, or none to resume, or it had another configuration.
    """
    data = setup.corpus
    record = _as_json(
        {
            "model": asdict(setup.model.bilm.config),
            "training": asdict(setup.config),
            "corpus": {"tokens": data.train.n_tokens, "sha256": data.fingerprint()},
        }
    )
    if init_from is not None and not resume:
        record["init_from"] = {"sha256": files.fingerprint(Path(init_from) / CONFIG_FILE)["sha256"]}
    if getattr(rank_zero_only, "rank", 0) != 0:  # the first process has looked
        return record
    if not resume:
        if (out / RESUME_FILE).exists():
            raise InputError(f"{out} holds a run already: say --resume to go on with it, or choose another folder")
        files.write_bytes(out / RUN_FILE, files.json_bytes({**record, "corpus_folder": str(data.folder.resolve())}))
        return record
    if not (out / RESUME_FILE).is_file():
        raise InputError(f"{out}: nothing to resume ({RESUME_FILE} is missing); start the run without --resume")
    earlier = files.read_json(out / RUN_FILE, kind="run")
    for part, fields in record.items():
        for key, value in fields.items():
            if earlier.get(part, {}).get(key) != value:
                raise InputError(
                    f"{out}: the run was started with {part}.{key} = {earlier.get(part, {}).get(key)!r}, "
                    f"now it is {value!r}; a run resumes only under its own configuration"
                )
    return {**record, "init_from": earlier["init_from"]} if "init_from" in earlier else record


def _as_json(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record as it reads back (tuples become lists)."""
    return json.loads(json.dumps(record))  # type: ignore[no-any-return]


def _loggers(out: Path, *, resume: bool) -> list[Logger]:
    loggers: list[Logger] = [CsvLog(out / "log.csv", keep=resume)]
    if find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(out, name="tensorboard", version=""))
    return loggers


def make_trainer(setup: Setup, folder: Path, *, loggers: list[Logger], callbacks: list[Callback]) -> Trainer:
    """Return Lightning's trainer, set up so that it leaves to this package what this package does."""
    return Trainer(
        accelerator="auto",
        devices=setup.config.n_devices,
        num_nodes=setup.config.n_nodes,
        precision=setup.config.precision,
        max_steps=setup.n_steps,
        val_check_interval=setup.validation_interval,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # the log keeps its own interval
        logger=loggers or False,
        callbacks=callbacks,
        plugins=[WholeFileIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning announces, which is said elsewhere, and warns of, where the choice is deliberate here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*your dataloader is not resumable.*",  # its sampler begins at the step
            ".*GPU available but not used.*",
            ".*isinstance.treespec, LeafSpec.*",
            ".*Total length of `.*` across ranks is zero.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield
