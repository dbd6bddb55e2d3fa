"""Pretraining: a prepared corpus -> a model folder. The wiring of Lightning, and the one function that runs it.

The mathematics is in :mod:`elmolite.bilm` and :mod:`elmolite.softmax`, the data in :mod:`elmolite.corpus`.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from elmolite import files
from elmolite.adaptive_softmax import AdaptiveSoftmax, AnySoftmax
from elmolite.bilm import BiLM, BiLMConfig, BiLMState
from elmolite.checkpoint import Checkpoint
from elmolite.corpus import Batch, Corpus, Streams
from elmolite.errors import InputError
from elmolite.lstm import State
from elmolite.perplexity import Perplexity, PerplexityMeter, evaluation_streams, run_batch, time_major
from elmolite.pretraining_config import RUN_FILE, PretrainingConfig
from elmolite.pretraining_data import PretrainingData, rows_of
from elmolite.softmax import Softmax
from elmolite.training_callbacks import CsvLog, ResumePoint, TrainingLog, WholeFileIO
from elmolite.weight_average import WeightAverage

RESUME_FILE = "last.ckpt"
MODEL_FOLDER = "model"
MIN_HEAD_SHARE = 0.9
"""Of the text that the most frequent words cover, the head of an adaptive softmax must cover so much."""


class PretrainingModule(LightningModule):
    """Loss, optimizer step and validation of a BiLM over streams, with the state carried from step to step."""

    def __init__(self, bilm: BiLM, softmax: AnySoftmax, config: PretrainingConfig, n_steps: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.bilm = bilm
        self.softmax = softmax
        self.config = config
        self.n_steps = n_steps
        self.last_perplexity: Perplexity | None = None
        self.average = WeightAverage(self, config.average_decay) if config.average_decay else None
        self._state: BiLMState | None = None
        self._meter: PerplexityMeter | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer; :meth:`training_step` sets its learning rate."""
        if self.config.optimizer == "adagrad":
            return torch.optim.Adagrad(self.parameters(), lr=self.config.learning_rate, initial_accumulator_value=1.0)
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)

    def training_step(self, batch: Batch, step: int) -> dict[str, Any]:
        """Take one optimizer step; everything random in it is a function of (seed, step, rank)."""
        torch.manual_seed(hash((self.config.seed, step, self.global_rank)) & 0x7FFF_FFFF)
        loss, penalty = self._loss(batch, step)
        share = self.trainer.world_size / (2 * self._n_targets(batch))  # DDP divides by the world size
        self.manual_backward(loss * share + penalty)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.config.clip_norm)
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)  # there is one
        learning_rate = self.config.learning_rate_at(step, self.n_steps)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad()
        if self.average is not None:
            self.average.update(step)
        return {
            "loss_sum": loss.detach(),
            "n_targets": batch.n_targets,
            "learning_rate": learning_rate,
            "gradient_norm": norm,
        }

    def _loss(self, batch: Batch, step: int) -> tuple[Tensor, Tensor | float]:
        """Return the loss of both directions summed over this rank's targets, and what the regularisers add."""
        if self._state is None:
            self._state = self.bilm.zero_state(len(batch.forward_inputs))
        forward, backward, state = run_batch(self.bilm, batch, self._state)
        self._state = state.detach()
        n_rows, n_steps = batch.forward_inputs.shape
        raw = torch.cat([forward, backward])
        hidden = torch.cat([self.bilm.dropout(part, [n_rows] * n_steps) for part in (forward, backward)])
        targets = torch.cat([time_major(batch.forward_targets), time_major(batch.backward_targets)])
        if self.config.softmax == "sampled":
            assert isinstance(self.softmax, Softmax)
            seed = hash((self.config.seed, step)) & 0x7FFF_FFFF
            loss = self.softmax.sampled_loss(hidden, targets, n_negatives=self.config.n_negatives, seed=seed)
        else:
            loss = self.softmax.full_loss(hidden, targets)
        return loss, self._penalty(raw.view(2, n_steps, n_rows, -1), hidden)

    def _penalty(self, raw: Tensor, dropped: Tensor) -> Tensor | float:
        """Return what the activation regularisers add, from the top outputs (2, T, B, P) before and after dropout."""
        penalty: Tensor | float = 0.0
        if self.config.activation_regularization:
            penalty = penalty + self.config.activation_regularization * dropped.pow(2).mean()
        if self.config.temporal_activation_regularization and raw.shape[1] > 1:
            penalty = penalty + self.config.temporal_activation_regularization * raw.diff(dim=1).pow(2).mean()
        return penalty

    def _n_targets(self, batch: Batch) -> int:
        """Return the targets of one direction of all ranks, at least 1."""
        n_targets = batch.n_targets
        if self.trainer.world_size > 1:
            counts = self.trainer.strategy.reduce(torch.tensor(n_targets, device=self.device), reduce_op="sum")
            n_targets = int(counts)
        return max(1, n_targets)

    def on_validation_epoch_start(self) -> None:
        """Start counting, with the averaged weights where there are any; the training state is not touched."""
        if self.average is not None:
            self.average.swap()
        self._meter = PerplexityMeter(self.bilm, self.softmax)

    def validation_step(self, batch: Batch, step: int) -> None:  # noqa: ARG002
        """Count a batch; every process evaluates the whole held-out text."""
        assert self._meter is not None
        self._meter.update(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the perplexities."""
        assert self._meter is not None
        if self.average is not None:
            self.average.swap()
        self.last_perplexity = result = self._meter.result()
        values = {"forward": result.forward, "backward": result.backward, "average": result.average}
        for logger in self.loggers:
            logger.log_metrics({f"valid_{name}": value for name, value in values.items()}, self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the average, and the LSTM state of every row, those of other processes included."""
        if self.average is not None:
            checkpoint["average"] = self.average.state()
        if self._state is None:
            checkpoint["lstm_state"] = None
            return
        checkpoint["lstm_state"] = [[self._of_all_rows(part) for part in state] for state in self._state]

    def _of_all_rows(self, part: Tensor) -> Tensor:
        """Join (L, rows of a process, size) over the processes."""
        if self.trainer.world_size == 1:
            return part
        gathered = self.all_gather(part)  # (processes, L, rows, size)
        assert isinstance(gathered, Tensor)
        return gathered.transpose(0, 1).flatten(1, 2)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back the average, and the LSTM state of the rows of this process."""
        if self.average is not None:
            self.average.load_state(checkpoint["average"])
        states = checkpoint["lstm_state"]
        if states is not None:
            rows = rows_of(self.trainer, self.config.n_rows)
            self._state = BiLMState(*(State(*(part[:, rows] for part in state)) for state in states))

    def on_train_start(self) -> None:
        """Bring a state that was loaded to the device: Lightning loads before it moves the model there."""
        if self._state is not None:
            self._state = BiLMState(*(State(*(part.to(self.device) for part in state)) for state in self._state))


def pretrain(
    corpus: str | Path,
    out: str | Path,
    *,
    model: BiLMConfig,
    training: PretrainingConfig | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> Path:
    """Pretrain a bidirectional language model.

    :param corpus: a prepared corpus.
    :param out: folder for the log, the point to resume from, and the model with the best perplexity.
    :param model: sizes, for instance ``elmolite.bilm.mini()``.
    :param training: how to train.
    :param resume: go on with an interrupted run in ``out``, under the same configuration.
    :returns: the model folder, ``out/model``.
    :raises InputError: the corpus is too small, or ``out`` holds another run.
    """
    training = training or PretrainingConfig()
    out = Path(out)
    data = Corpus.open(corpus)
    if len(data.train.tokens) < training.n_rows * training.window:
        raise InputError(
            f"{corpus}: {len(data.train.tokens):,} positions of text are less than one batch of {training.n_rows} x "
            f"{training.window}; give more text or fewer --n-rows"
        )
    train = Streams(
        data, data.train, training.n_rows, training.window, training.seed, training.reset_probability, model.input
    )
    n_steps = training.n_steps(train)
    capped = data.valid.first_sentences(training.valid_tokens) if data.valid.n_tokens else None
    valid = None if capped is None else evaluation_streams(data, capped, by_sentence=False, model_input=model.input)
    record = _claim(out, data, model, training, resume=resume)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # what it announces is said below, or is no news
    with warnings.catch_warnings():
        _ignore_known_warnings()
        seed_everything(training.seed, verbose=False)
        indexer = data.indexer(model.input)
        bilm = BiLM(model, n_ids=indexer.n_ids)
        softmax = _softmax(data, model, training)
        module = PretrainingModule(bilm, softmax, training, n_steps)
        checkpoint = Checkpoint(bilm, data.tokenizer, indexer, softmax, data.vocabulary, record)
        interval = max(1, n_steps // training.n_validations)
        point = ResumePoint(out / RESUME_FILE, out / MODEL_FOLDER, checkpoint, interval, validates=valid is not None)
        log = TrainingLog(n_steps, every=training.log_every_steps, show=show_progress)
        trainer = _trainer(out, training, n_steps, interval, [log, point], resume)
        if show_progress and trainer.is_global_zero:
            _announce(data, bilm, module, n_steps, interval, capped.n_tokens if capped else 0)
        source = PretrainingData(train, valid, n_steps)
        if valid is not None and not resume:
            trainer.validate(module, source, verbose=False)
        try:
            trainer.fit(module, source, ckpt_path=str(out / RESUME_FILE) if resume else None, weights_only=True)
        except SystemExit:  # Lightning's way out on Ctrl-C
            raise KeyboardInterrupt(f"interrupted; {point.describe()}") from None
        if point.saved_step != n_steps:  # the end of the run is no multiple of the interval
            trainer.validate(module, source, verbose=False) if valid is not None else point.save(trainer, module)
    return out / MODEL_FOLDER


def _softmax(data: Corpus, model: BiLMConfig, training: PretrainingConfig) -> AnySoftmax:
    """Make the output weights.

    :raises InputError: an adaptive softmax is wanted over a vocabulary that is not in order of frequency.
    """
    n_words = len(data.vocabulary)
    if training.softmax_kind(n_words) != "adaptive":
        return Softmax(vocabulary_size=n_words, projection_size=model.projection_size)
    softmax = AdaptiveSoftmax(vocabulary_size=n_words, projection_size=model.projection_size)
    n_head, counts = softmax.bounds[0], data.vocabulary.counts
    if sum(counts[:n_head]) < MIN_HEAD_SHARE * sum(sorted(counts, reverse=True)[:n_head]):
        raise InputError(
            f"{data.folder}: an adaptive softmax needs a vocabulary in order of frequency, and the first {n_head:,} "
            "words here are not the most frequent; choose --softmax full or sampled, or sort the --vocab of prepare"
        )
    return softmax


def _claim(out: Path, data: Corpus, model: BiLMConfig, training: PretrainingConfig, *, resume: bool) -> dict[str, Any]:
    """Record the run in its folder, or hold a resumed one against that record.

    :raises InputError: there is a run already, or none to resume, or it had another configuration.
    """
    record = _as_json(
        {
            "model": asdict(model),
            "training": asdict(training),
            "corpus": {"tokens": data.train.n_tokens, "sha256": data.fingerprint()},
        }
    )
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
    return record


def _as_json(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record as it reads back (tuples become lists)."""
    return json.loads(json.dumps(record))  # type: ignore[no-any-return]


def _trainer(
    out: Path, training: PretrainingConfig, n_steps: int, interval: int, callbacks: list[Any], resume: bool
) -> Trainer:
    loggers: list[Logger] = [CsvLog(out / "log.csv", keep=resume)]
    if find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(out, name="tensorboard", version=""))
    return Trainer(
        accelerator="auto",
        devices=training.n_devices,
        num_nodes=training.n_nodes,
        precision=training.precision,
        max_steps=n_steps,
        val_check_interval=interval,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # the log keeps its own interval
        logger=loggers,
        callbacks=callbacks,
        plugins=[WholeFileIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=out,
    )


def _ignore_known_warnings() -> None:
    """Silence what Lightning says about choices that are deliberate here."""
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # its sampler begins at the step
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*Total length of `.*` across ranks is zero.*")


def _announce(data: Corpus, bilm: BiLM, module: PretrainingModule, n_steps: int, interval: int, n_valid: int) -> None:
    """Say what will be trained on what."""
    training = module.config
    kind = f"{training.softmax_kind(len(data.vocabulary))} softmax"
    if training.softmax == "sampled":
        kind += f" ({training.n_negatives} draws)"
    print(
        f"{bilm.n_parameters / 1e6:.1f} M parameters, {kind} over {len(data.vocabulary):,} words; "
        f"{data.train.n_tokens:,} tokens; {n_steps:,} steps of {training.n_rows} x {training.window}; "
        f"{training.precision}, seed {training.seed}"
    )
    if n_valid:
        share = "" if n_valid == data.valid.n_tokens else f" of {data.valid.n_tokens:,} (--valid-tokens)"
        print(f"validation on {n_valid:,}{share} held-out tokens, every {interval:,} steps")
    else:
        print("no held-out text: nothing will be validated, and the last model is kept")
