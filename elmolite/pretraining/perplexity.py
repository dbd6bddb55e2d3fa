"""Exact perplexity: exp of the mean loss over every target, normalised over the whole vocabulary."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from elmolite.data.bptt import Batch, BPTTBatches
from elmolite.data.corpus import Corpus, Split
from elmolite.data.vocab import UNKNOWN_ID
from elmolite.nn.bilm import BiLM, BiLMState
from elmolite.nn.softmax import Softmax
from elmolite.utils.torch import evaluating

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


def run_batch(bilm: BiLM, batch: Batch, state: BiLMState) -> tuple[Tensor, Tensor, BiLMState]:
    """Run a batch of a stream through the model.

    :returns: the top layer of each direction, (T * B, P), time-major as :func:`time_major` lays out targets, and
        the state after the window.
    """
    n_rows, n_steps = batch.forward_inputs.shape
    forward_layers, backward_layers, state = bilm(
        batch.unique_words,
        time_major(batch.forward_inputs),
        time_major(batch.backward_inputs),
        [n_rows] * n_steps,
        state,
        None if batch.reset_mask is None else time_major(batch.reset_mask),
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


def evaluation_batches(corpus: Corpus, split: Split, *, by_sentence: bool, model_input: str) -> BPTTBatches:
    """Return the batches of an evaluation: every target once, over 32 rows or as many as there are sentences.

    :param by_sentence: start each sentence from zero state instead of carrying the state through the text.
    :param model_input: what the model reads, ``BiLMConfig.input``.
    """
    return BPTTBatches(
        corpus,
        split,
        batch_size=min(EVALUATION_ROWS, split.n_sentences),
        bptt_length=EVALUATION_WINDOW,
        reset_probability=1.0 if by_sentence else 0.0,
        model_input=model_input,
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

    :param by_sentence: see :func:`evaluation_batches`.
    :param on_batch: called with the number of targets after each batch.
    """
    meter = PerplexityMeter(bilm, softmax)
    streams = evaluation_batches(corpus, split, by_sentence=by_sentence, model_input=bilm.config.input)
    with evaluating(bilm):
        for step in range(streams.epoch_steps(0)):
            batch = streams.batch(step)
            meter.update(batch.to(bilm.device))
            if on_batch is not None:
                on_batch(batch.n_targets)
    return meter.result()
