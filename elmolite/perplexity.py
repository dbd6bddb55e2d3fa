"""Exact perplexity: exp of the mean loss over every target, normalised over the whole vocabulary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from elmolite.bilm import BiLM, BiLMState
from elmolite.checkpoint import Checkpoint
from elmolite.corpus import Batch, Corpus, Split, Streams
from elmolite.errors import InputError
from elmolite.modules import best_device, evaluating
from elmolite.preparation import prepare
from elmolite.softmax import Softmax
from elmolite.vocab import UNKNOWN_ID

EVALUATION_ROWS = 32
EVALUATION_WINDOW = 32


@dataclass(frozen=True)
class Perplexity:
    """Perplexities of each direction and of both, and what they were counted on."""

    forward: float
    backward: float
    average: float
    unknown_share: float
    n_targets: int


@dataclass(frozen=True)
class Evaluation:
    """Perplexities of a text with the state carried through it, and with each sentence from zero state."""

    running_text: Perplexity
    by_sentence: Perplexity

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Return a table, for a person."""
        lines = ["perplexity            forward  backward   average"]
        for name, part in (("running text", self.running_text), ("sentence by sentence", self.by_sentence)):
            lines.append(f"{name:<20}{part.forward:>9.2f} {part.backward:>9.2f} {part.average:>9.2f}")
        text = self.running_text
        lines.append(f"{text.n_targets:,} targets a direction, {text.unknown_share:.2%} outside the vocabulary")
        return "\n".join(lines)


def run_batch(bilm: BiLM, batch: Batch, state: BiLMState) -> tuple[Tensor, Tensor, BiLMState]:
    """Run a batch of a stream through the model.

    :returns: the top layer of each direction, (T * B, P), time-major as :func:`time_major` lays out targets, and
        the state after the window.
    """
    n_rows, n_steps = batch.forward_inputs.shape
    forward_layers, backward_layers, state = bilm(
        batch.characters,
        time_major(batch.forward_inputs),
        time_major(batch.backward_inputs),
        [n_rows] * n_steps,
        state,
        None if batch.starts is None else time_major(batch.starts),
    )
    return forward_layers[-1], backward_layers[-1], state


def time_major(x: Tensor) -> Tensor:
    """Lay out (B, T) as (T * B), one step after the other."""
    return x.T.reshape(-1)


class PerplexityMeter:
    """Adds up the losses of consecutive batches of a stream, carrying the state from one to the next.

    Always computes in the precision of the weights: a perplexity must not depend on autocast.
    """

    def __init__(self, bilm: BiLM, softmax: Softmax) -> None:
        self.bilm = bilm
        self.softmax = softmax
        self._state: BiLMState | None = None
        self._losses = [0.0, 0.0]
        self._n_targets = 0
        self._n_unknown = 0

    @torch.no_grad()
    def update(self, batch: Batch) -> None:
        """Count the next batch."""
        if self._state is None:
            self._state = self.bilm.zero_state(len(batch.forward_inputs))
        with torch.autocast(self.bilm.device.type, enabled=False):
            forward, backward, self._state = run_batch(self.bilm, batch, self._state)
            for direction, (hidden, targets) in enumerate(
                [(forward, batch.forward_targets), (backward, batch.backward_targets)]
            ):
                self._losses[direction] += self.softmax.full_loss(hidden, time_major(targets)).item()
        self._n_targets += batch.n_targets
        self._n_unknown += int((batch.forward_targets == UNKNOWN_ID).sum())

    def result(self) -> Perplexity:
        """Return the perplexities of what was counted."""
        forward, backward = (loss / max(1, self._n_targets) for loss in self._losses)
        return Perplexity(
            _exp(forward),
            _exp(backward),
            _exp((forward + backward) / 2),
            self._n_unknown / max(1, self._n_targets),
            self._n_targets,
        )


def _exp(x: float) -> float:
    """Return e ** x, infinity where that is too large for a float; NaN stays NaN."""
    return math.inf if x > 700 else math.exp(x)


def evaluation_streams(corpus: Corpus, split: Split, *, by_sentence: bool) -> Streams:
    """Return the batches of an evaluation: every target once, over 32 rows or as many as there are sentences.

    :param by_sentence: start each sentence from zero state instead of carrying the state through the text.
    """
    return Streams(
        corpus,
        split,
        n_rows=min(EVALUATION_ROWS, split.n_sentences),
        window=EVALUATION_WINDOW,
        reset_probability=1.0 if by_sentence else 0.0,
    )


def evaluate(
    bilm: BiLM,
    softmax: Softmax,
    corpus: Corpus,
    split: Split,
    *,
    by_sentence: bool,
    on_batch: Callable[[int], None] | None = None,
) -> Perplexity:
    """Compute the perplexity of a split.

    :param by_sentence: see :func:`evaluation_streams`.
    :param on_batch: called with the number of targets after each batch.
    """
    meter = PerplexityMeter(bilm, softmax)
    streams = evaluation_streams(corpus, split, by_sentence=by_sentence)
    with evaluating(bilm):
        for step in range(streams.epoch_steps(0)):
            batch = streams.batch(step)
            meter.update(batch.to(bilm.device))
            if on_batch is not None:
                on_batch(batch.n_targets)
    return meter.result()


def evaluate_text(model: str | Path, text: Sequence[str], *, show_progress: bool = True) -> Evaluation:
    """Compute the perplexity of a model folder on raw text, cut as the model's own text was.

    :param text: files, folders, globs or ``-``.
    :raises InputError: the folder has no softmax, or the text cannot be read.
    """
    checkpoint = Checkpoint.from_pretrained(model).to(best_device())
    if checkpoint.softmax is None or checkpoint.vocabulary is None:
        raise InputError(f"{model}: without softmax.safetensors and vocab.txt there is no language model to evaluate")
    with TemporaryDirectory() as folder:
        corpus = prepare(
            text,
            Path(folder) / "corpus",
            hold_out=False,
            tokenizer=checkpoint.tokenizer,
            vocabulary=checkpoint.vocabulary,
            show_progress=False,
        )
        n_targets = 2 * (corpus.train.n_tokens + corpus.train.n_sentences)
        with tqdm(total=n_targets, unit="targets", unit_scale=True, disable=None if show_progress else True) as bar:
            running, alone = (
                evaluate(
                    checkpoint.bilm,
                    checkpoint.softmax,
                    corpus,
                    corpus.train,
                    by_sentence=by_sentence,
                    on_batch=bar.update,
                )
                for by_sentence in (False, True)
            )
    return Evaluation(running, alone)
