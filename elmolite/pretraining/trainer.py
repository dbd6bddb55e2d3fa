"""Pretraining: a prepared corpus -> a model folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from elmolite.errors import InputError, Preempted
from elmolite.nn.bilm import BiLMConfig
from elmolite.pretraining import distributed, run_record
from elmolite.pretraining.checkpointing import PointIO, ResumePoint
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.data import PretrainingData
from elmolite.pretraining.heartbeat import Heartbeat
from elmolite.pretraining.logging import CsvLog, TrainingLog
from elmolite.pretraining.module import PretrainingModule
from elmolite.pretraining.saved_points import SavedPoints
from elmolite.pretraining.setup import Setup, set_up
from elmolite.utils.lightning import quiet_lightning

MODEL_FOLDER = "model"


def pretrain(
    config: PretrainingConfig,
    *,
    model: BiLMConfig,
    corpus: str | Path,
    out: str | Path,
    init_from: str | Path | None = None,
    resume: bool = False,
    keep_last: int = 2,
    show_progress: bool = True,
) -> Path:
    """Pretrain a bidirectional language model, as ``elmolite pretrain`` does.

    For each further device Lightning runs the script anew, with all that stands before this call: prepare the corpus in
    another one. :func:`elmolite.utils.torch.keep_freed_memory` makes steps faster on the CPU, as the command line does.

    :param config: how to train; :func:`elmolite.load_recipe` reads it, and the sizes, from a file.
    :param model: sizes, for instance ``elmolite.nn.bilm.mini()``.
    :param corpus: a prepared corpus.
    :param out: folder for the log, the points to resume from, and the model with the best perplexity.
    :param init_from: a model folder to start from (domain adaptation): same sizes, the corpus may have other words.
    :param resume: go on with an interrupted run in ``out``, under the same configuration, from the latest point that is
        whole.
    :param keep_last: so many points to resume from stay.
    :returns: the model folder, ``out/model``.
    :raises InputError: the corpus is too small, ``init_from`` does not fit, or ``out`` holds another run; or training
        diverged.
    :raises Preempted: SIGTERM or SIGINT has come; the run was saved.
    """
    out, points = Path(out), SavedPoints(Path(out))
    distributed.join_process_group()
    with quiet_lightning():
        if keep_last < 1:
            raise InputError(f"keep_last: {keep_last}: one point at least must stay")
        with distributed.raising_together():
            distributed.check_number(n_devices=config.n_devices, n_nodes=config.n_nodes)
            resume_from = points.latest_good() if resume else None
        setup = _set_up(config, model, corpus, out, init_from, resume=resume)
        module = PretrainingModule(setup.model.bilm, setup.softmax, config, setup.n_steps)
        point = ResumePoint(
            points,
            out / MODEL_FOLDER,
            setup.model,
            setup.validation_interval,
            validates=setup.valid is not None,
            keep_last=keep_last,
            patience=config.patience,
        )
        heartbeat = Heartbeat()
        log = TrainingLog(setup.n_steps, every=config.log_every_steps, show=show_progress)
        trainer = make_trainer(setup, out, loggers=_loggers(out, resume=resume), callbacks=[heartbeat, log, point])
        if show_progress and trainer.is_global_zero:
            print(setup.describe())
        try:
            _run(trainer, module, setup, point, resume_from=resume_from)
            distributed.enter_barrier()  # all beat until all have come to the end
        finally:
            heartbeat.stop()
    return out / MODEL_FOLDER


def _set_up(
    config: PretrainingConfig,
    model: BiLMConfig,
    corpus: str | Path,
    out: Path,
    init_from: str | Path | None,
    *,
    resume: bool,
) -> Setup:
    """Make what the run consists of, the same in all processes, and record it in its folder."""
    with distributed.raising_together():
        if resume:
            setup = set_up(config, model=model, corpus=corpus, softmax=run_record.softmax_of_run(out))
        else:
            setup = set_up(config, model=model, corpus=corpus, init_from=init_from)
        record = run_record.make(setup, init_from)
        setup.model.training = run_record.claim(out, record, setup.corpus.folder, resume=resume)
    run_record.check_alike(record)
    return setup


def _run(
    trainer: Trainer, module: PretrainingModule, setup: Setup, point: ResumePoint, resume_from: Path | None
) -> None:
    """Validate, train and validate."""
    source = PretrainingData(
        setup.train, setup.valid, setup.n_steps, n_accumulated=setup.config.n_accumulated, text=module.text
    )
    try:
        with point.termination.watching():
            if setup.valid is not None and resume_from is None:
                trainer.validate(module, source, verbose=False)
            trainer.fit(module, source, ckpt_path=resume_from and str(resume_from), weights_only=True)
            if point.done_step == trainer.global_step:
                return
            if setup.valid is None:  # the end of the run is no multiple of the interval
                point.save(trainer, module)
            else:
                point.save_before_validation(trainer, module)
                trainer.validate(module, source, verbose=False)
    except SystemExit:  # ours when a signal has come, and Lightning's when somebody could not wait
        step = point.points.latest_step()
        if step is None:
            raise KeyboardInterrupt("interrupted; nothing was saved yet") from None
        raise Preempted(f"interrupted; go on from step {step:,} with --resume") from None


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
        plugins=[PointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
