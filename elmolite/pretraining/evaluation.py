"""Exact perplexity: exp of the mean loss over every target, normalized over the whole vocabulary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elmolite.checkpoint import Checkpoint
from elmolite.data.bptt import Batch, BPTTBatches
from elmolite.data.corpus import Corpus, Split
from elmolite.data.prepare import prepare
from elmolite.data.vocab import BEGIN_SENTENCE_ID, END_SENTENCE_ID, UNKNOWN_ID
from elmolite.errors import InputError
from elmolite.nn.bilm import BiLM, BiLMState
from elmolite.nn.softmax import Softmax
from elmolite.pretraining import distributed
from elmolite.utils.console import ProgressBar, html_table
from elmolite.utils.torch import best_device, evaluating

EVALUATION_BATCH_SIZE = 32
EVALUATION_BPTT_LENGTH = 32


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of each direction and of both, the out-of-vocabulary rate and the number of targets per direction."""

    forward: float
    backward: float
    average: float
    oov_rate: float
    n_targets: int


@dataclass(frozen=True)
class Evaluation:
    """Perplexity of a text with the LSTM state carried through it, and with the state reset at each sentence."""

    running_text: Perplexity
    by_sentence: Perplexity

    def __repr__(self) -> str:
        running, alone = self.running_text.average, self.by_sentence.average
        return f"Evaluation(perplexity {running:.2f} over running text, {alone:.2f} sentence by sentence)"

    def _repr_html_(self) -> str:
        rows = [["perplexity", "forward", "backward", "average"]]
        for name, part in (("running text", self.running_text), ("sentence by sentence", self.by_sentence)):
            rows.append([name, *(f"{value:.2f}" for value in (part.forward, part.backward, part.average))])
        return html_table(rows)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; ``unknown_share`` is a deprecated duplicate of ``oov_rate``."""
        return {name: {**part, "unknown_share": part["oov_rate"]} for name, part in asdict(self).items()}

    def describe(self) -> str:
        """Return a table of the perplexities."""
        lines = ["perplexity            forward  backward   average"]
        for name, part in (("running text", self.running_text), ("sentence by sentence", self.by_sentence)):
            lines.append(f"{name:<20}{part.forward:>9.2f} {part.backward:>9.2f} {part.average:>9.2f}")
        text = self.running_text
        lines.append(f"{text.n_targets:,} targets per direction, {text.oov_rate:.2%} out of vocabulary")
        return "\n".join(lines)


def run_batch(bilm: BiLM, batch: Batch, state: BiLMState) -> tuple[Tensor, Tensor, BiLMState]:
    """Run a batch through the model.

    :returns: the top layer of each direction, (T * B, P), time-major like :func:`time_major`, and the state after it.
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
    """Flatten (B, T) to (T * B), time step by time step."""
    return x.T.reshape(-1)


class PerplexityMeter:
    """Sum of the losses over consecutive batches, with the LSTM state carried from batch to batch.

    Computes in the precision of the weights, regardless of autocast.
    """

    def __init__(self, bilm: BiLM, softmax: Softmax) -> None:
        self.bilm = bilm
        self.softmax = softmax
        self._state: BiLMState | None = None
        self._sums: list[Tensor] = []  # of each batch, on the device: the loss of each direction, the unknown words
        self._n_targets = 0

    @torch.no_grad()
    def update(self, batch: Batch) -> None:
        """Add the next batch."""
        if self._state is None:
            self._state = self.bilm.zero_state(len(batch.forward_inputs))
        with torch.autocast(self.bilm.device.type, enabled=False):
            forward, backward, self._state = run_batch(self.bilm, batch, self._state)
            losses = [
                self.softmax.full_loss(hidden, time_major(targets))
                for hidden, targets in ((forward, batch.forward_targets), (backward, batch.backward_targets))
            ]
        self._sums.append(torch.stack([*losses, (batch.forward_targets == UNKNOWN_ID).sum()]))
        self._n_targets += batch.n_targets

    def totals(self) -> tuple[float, float, float, int]:
        """Return the sums over the batches so far: loss of each direction, unknown words, targets per direction."""
        sums = torch.stack(self._sums).cpu().double().sum(dim=0) if self._sums else torch.zeros(3)
        forward, backward, n_unknown = sums.tolist()
        return forward, backward, n_unknown, self._n_targets

    def result(self) -> Perplexity:
        """Return the perplexity over the batches so far, of all ranks together; a collective."""
        forward, backward, n_unknown, n_targets = map(
            sum, zip(*distributed.all_gather_object(self.totals()), strict=True)
        )
        n = max(1, n_targets)
        average = (forward + backward) / 2
        return Perplexity(_exp(forward / n), _exp(backward / n), _exp(average / n), n_unknown / n, n_targets)


def _exp(x: float) -> float:
    """Return e ** x, infinity on overflow; NaN stays NaN."""
    return math.inf if x > 700 else math.exp(x)


def evaluation_batches(corpus: Corpus, split: Split, *, by_sentence: bool, model_input: str) -> BPTTBatches:
    """Return the batches of an evaluation, which hold every target once.

    :param by_sentence: start each sentence from a zero state instead of carrying the state through the text.
    :param model_input: ``BiLMConfig.input``, "characters" or "words".
    """
    return BPTTBatches(
        corpus,
        split,
        batch_size=min(EVALUATION_BATCH_SIZE, split.n_sentences),
        bptt_length=EVALUATION_BPTT_LENGTH,
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
    """Compute the perplexity of a corpus split.

    :param by_sentence: as in :func:`evaluation_batches`.
    :param on_batch: called after each batch with its number of targets per direction.
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


def unigram_perplexity(corpus: Corpus, split: Split) -> float:
    """Return the perplexity of a split under the relative frequencies of the words in the training text.

    The targets are those of the language model; both directions have the same value.
    """
    counts = np.array(corpus.vocabulary.counts, dtype=np.float64)
    counts[BEGIN_SENTENCE_ID] = 0  # the end of a sentence is the target of the forward direction
    targets = corpus.targets(np.asarray(split.tokens))
    targets = np.where(targets == BEGIN_SENTENCE_ID, END_SENTENCE_ID, targets)
    with np.errstate(divide="ignore"):  # infinite if a target does not occur in the training text
        return float(np.exp(np.log(counts.sum()) - np.log(counts[targets]).mean()))


def evaluate_text(model: str | Path, text: Sequence[str], *, show_progress: bool = True) -> Evaluation:
    """Compute the perplexity of a model folder on raw text, tokenized like the model's training text.

    :param text: files, folders, globs or ``-``.
    :raises InputError: the folder has no softmax, or the text cannot be read.
    """
    checkpoint = Checkpoint.from_pretrained(model).to(best_device())
    if checkpoint.softmax is None or checkpoint.vocabulary is None:
        raise InputError(f"{model}: perplexity needs the softmax: softmax.safetensors or vocab.txt is missing")
    with TemporaryDirectory() as folder:
        corpus = prepare(
            text,
            Path(folder) / "corpus",
            hold_out=False,
            tokenizer=checkpoint.tokenizer,
            vocabulary=checkpoint.vocabulary,
            characters=checkpoint.characters,
            show_progress=show_progress,
        )
        n_targets = 2 * (corpus.train.n_tokens + corpus.train.n_sentences)
        with ProgressBar("evaluating", unit="targets", total=n_targets, show=show_progress) as bar:
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
