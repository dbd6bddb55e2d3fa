"""Pretraining: train a model folder from a prepared corpus with Lightning."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from elmolite.errors import InputError, Preempted, ReportedByRankZero
from elmolite.nn.config import BiLMConfig
from elmolite.pretraining import distributed
from elmolite.pretraining.checkpointing import (
    MODEL_FOLDER,
    CheckpointCallback,
    TrainingCheckpointIO,
    TrainingCheckpoints,
    step_of,
)
from elmolite.pretraining.config import PretrainingConfig, read_run_config
from elmolite.pretraining.logging import CsvLog, TrainingLog
from elmolite.pretraining.module import PretrainingData, PretrainingModule
from elmolite.pretraining.setup import PretrainingRun, assert_same_on_all_ranks, save_or_verify
from elmolite.utils.torch import best_device, quiet_lightning, trainer_devices


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
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] | None = None,
) -> Path:
    """Pretrain a bidirectional language model, as ``elmolite pretrain`` does.

    With ``n_devices`` above 1 Lightning starts the calling script again for each further device, including the code
    before this call: prepare the corpus in another script.

    >>> sizes = BiLMConfig(filters=[(1, 8)], cell_size=16, projection_size=8)
    >>> settings = PretrainingConfig(max_steps=2, batch_size=4, n_validations=1)
    >>> pretrain(settings, model=sizes, corpus="corpus", out="run", show_progress=False)
    PosixPath('run/model')

    :param config: hyper-parameters; :func:`elmolite.load_recipe` reads them, and the sizes, from a file.
    :param model: sizes, for instance ``elmolite.nn.config.mini()``.
    :param corpus: folder of a prepared corpus.
    :param out: run folder, for the log, the checkpoints and the model with the best perplexity.
    :param init_from: model folder to start from (domain adaptation): same sizes, the corpus may have other words.
    :param resume: resume the run in ``out``, under the same configuration, from the latest intact checkpoint.
    :param keep_last: number of checkpoints to keep.
    :param callbacks: Lightning callbacks to add.
    :param loggers: Lightning loggers to add to ``out/log.csv``, for instance a ``WandbLogger``. The default is
        TensorBoard, in ``out/tensorboard``, if it is installed.
    :returns: the model folder, ``out/model``.
    :raises InputError: the corpus is too small, ``init_from`` does not fit, ``out`` holds another run, or training
        diverged.
    :raises Preempted: SIGTERM or SIGINT stopped the run after a checkpoint.
    """
    checkpoints = TrainingCheckpoints(Path(out))
    distributed.join_process_group()
    distributed.leave_process_group_at_exit()
    with quiet_lightning():
        if keep_last < 1:
            raise InputError(f"keep_last must be positive, got {keep_last}")
        with distributed.reraise_on_all_ranks():
            distributed.check_world_size(n_devices=config.n_devices, n_nodes=config.n_nodes)
            if not resume and checkpoints.paths():
                raise InputError(f"{out} already contains a run: pass `resume=True` to continue it, or another folder")
        if resume:
            checkpoints.load_latest()
        run = _build(config, model, corpus, checkpoints.run, init_from, resume=resume)
        if loggers is None:
            has_tensorboard = find_spec("tensorboard") is not None
            loggers = [TensorBoardLogger(out, name="tensorboard", version="")] if has_tensorboard else []
        log = TrainingLog(run.n_steps, every=config.log_every_steps, show=show_progress)
        checkpointing = CheckpointCallback(run, checkpoints, keep_last=keep_last)
        trainer = make_trainer(
            run,
            checkpoints,
            loggers=[CsvLog(checkpoints.run / "log.csv", keep=resume), *loggers],
            callbacks=[*callbacks, log, checkpointing],
        )
        distributed.log_once(run.describe())
        if (step := checkpointing.finished_step()) is not None:
            model_path = checkpoints.run / MODEL_FOLDER
            distributed.log_once(
                f"the run has finished, after step {step:,}; to train its model further, start a new run from it: "
                + shlex.join(["elmolite", "pretrain", "--init-from", str(model_path), "--corpus", str(corpus)])
                + " --out FOLDER"
            )
        _fit(trainer, run, checkpointing)
    return checkpoints.run / MODEL_FOLDER


def _build(
    config: PretrainingConfig,
    model: BiLMConfig,
    corpus: str | Path,
    out: Path,
    init_from: str | Path | None,
    *,
    resume: bool,
) -> PretrainingRun:
    """Build the run, the same on all ranks, and record its configuration in its folder."""
    with distributed.reraise_on_all_ranks():
        softmax = read_run_config(out)["softmax"] if resume else None
        run = PretrainingRun.build(
            config, model=model, corpus=corpus, init_from=None if resume else init_from, softmax=softmax
        )
        run_config = run.run_config(init_from)
        run.model.training = save_or_verify(out, run_config, run.corpus.folder, resume=resume)
    assert_same_on_all_ranks(run_config)
    return run


def _fit(trainer: Trainer, run: PretrainingRun, checkpointing: CheckpointCallback) -> None:
    """Validate, train and validate, resuming from the loaded checkpoint if there is one."""
    module = PretrainingModule(run.model.bilm, run.softmax, run.config, run.n_steps)
    source = PretrainingData(run)
    checkpoints = checkpointing.checkpoints
    loaded, path = checkpoints.loaded, None
    must_validate = run.valid is not None
    if loaded is not None:
        step, done_step = loaded["global_step"], loaded["callbacks"][checkpointing.state_key]["done_step"]
        path = str(checkpoints.path_at(step))
        must_validate = checkpointing.must_validate(step, done_step)
    try:
        with checkpointing.stop_signal.installed():
            if must_validate:
                trainer.validate(module, source, ckpt_path=path, verbose=False, weights_only=True)
            trainer.fit(module, source, ckpt_path=path, weights_only=True)
            if checkpointing.done_step == trainer.global_step:
                return
            if run.valid is None:  # the number of steps is not a multiple of the interval
                checkpointing.save(trainer, module)
            else:
                checkpointing.save_before_validation(trainer, module)
                trainer.validate(module, source, verbose=False)
    except SystemExit:  # raised after a signal by the callback, or by Lightning
        if not (paths := checkpoints.paths()):
            raise KeyboardInterrupt("interrupted before the first checkpoint") from None
        command = shlex.join(["elmolite", "pretrain", "--out", str(checkpoints.run), "--resume"])
        raise Preempted(f"interrupted after step {step_of(paths[0]):,}; to continue: {command}") from None
    except RuntimeError as error:
        if distributed.is_lost_connection(error):
            raise ReportedByRankZero("another rank ended, see its error; continue with `resume=True`") from None
        raise


def make_trainer(
    run: PretrainingRun, checkpoints: TrainingCheckpoints, *, loggers: list[Logger], callbacks: list[Callback]
) -> Trainer:
    """Return a Lightning trainer that leaves checkpoints, logging intervals and progress to this package."""
    config = run.config
    is_distributed, device = config.n_devices * config.n_nodes > 1, best_device()
    ddp = DDPStrategy(timeout=distributed.PROCESS_GROUP_TIMEOUT, gradient_as_bucket_view=True)
    trainer = Trainer(
        accelerator=device.type,
        devices=trainer_devices(device, config.n_devices),
        num_nodes=config.n_nodes,
        strategy=ddp if is_distributed else "auto",
        precision=config.precision,
        max_steps=run.n_steps,
        val_check_interval=run.validation_interval,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # TrainingLog keeps the interval
        logger=loggers or False,
        callbacks=callbacks,
        plugins=[TrainingCheckpointIO(checkpoints)],
        enable_checkpointing=any(isinstance(each, LightningCheckpoint) for each in callbacks),
        enable_progress_bar=any(isinstance(each, ProgressBar) for each in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=checkpoints.run,
    )
    # Each step would broadcast whether Lightning's signal handler, which is replaced, was called, and wait for the
    # device; no public option prevents it (Lightning-AI/pytorch-lightning#21487).
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return trainer
