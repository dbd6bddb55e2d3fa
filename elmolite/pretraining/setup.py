"""A prepared corpus and two configurations -> all that a run of pretraining consists of, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from elmolite.checkpoint import Checkpoint
from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Corpus
from elmolite.errors import InputError
from elmolite.nn.bilm import BiLM, BiLMConfig
from elmolite.nn.softmax import Softmax, make_softmax
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.perplexity import evaluation_batches
from elmolite.pretraining.warm_start import start_from

MIN_HEAD_SHARE = 0.9
"""Of the text that the most frequent words cover, the head of an adaptive softmax must cover so much."""


@dataclass
class Setup:
    """What is trained, on what and how."""

    corpus: Corpus
    config: PretrainingConfig
    train: BPTTBatches
    valid: BPTTBatches | None
    n_steps: int
    model: Checkpoint
    notes: list[str]  # what the user should know about how the model starts

    @property
    def validation_interval(self) -> int:
        """Steps from one validation to the next."""
        return max(1, self.n_steps // self.config.n_validations)

    @property
    def softmax(self) -> Softmax:
        """The output weights."""
        assert self.model.softmax is not None
        return self.model.softmax

    def describe(self) -> str:
        """Return what will be trained on what, for a person."""
        config, data = self.config, self.corpus
        n_negatives = config.negatives_of(self.softmax)
        kind = self.softmax.kind if n_negatives is None else f"sampled ({n_negatives} draws)"
        accumulated = f"{config.n_accumulated} x " if config.n_accumulated > 1 else ""
        lines = [
            f"{self.model.bilm.n_parameters / 1e6:.1f} M parameters, {kind} softmax over {len(data.vocabulary):,} "
            f"words; {data.train.n_tokens:,} tokens; {self.n_steps:,} steps of {accumulated}{config.n_rows} x "
            f"{config.window}; {config.precision}, seed {config.seed}",
            *self.notes,
        ]
        if self.valid is None:
            lines.append("no held-out text: nothing will be validated, and the last model is kept")
        else:
            n_valid, n_all = self.valid.split.n_tokens, data.valid.n_tokens
            share = "" if n_valid == n_all else f" of {n_all:,} (--valid-tokens)"
            lines.append(f"validation on {n_valid:,}{share} held-out tokens, every {self.validation_interval:,} steps")
        return "\n".join(lines)


def set_up(
    config: PretrainingConfig,
    *,
    model: BiLMConfig,
    corpus: str | Path,
    init_from: str | Path | None = None,
    softmax: dict[str, Any] | None = None,
) -> Setup:
    """Open the corpus and make the model.

    :param init_from: a model folder whose weights are the first ones.
    :param softmax: kind and options of the softmax of the run to resume.
    :raises InputError: the corpus is too small, or the model in ``init_from`` has other sizes.
    """
    data = Corpus.open(corpus)
    if len(data.train.tokens) < config.n_rows * config.window:
        raise InputError(
            f"{corpus}: {len(data.train.tokens):,} positions of text are less than one batch of {config.n_rows} x "
            f"{config.window}; give more text or fewer --n-rows"
        )
    train = BPTTBatches(
        data, data.train, config.n_rows, config.window, config.seed, config.reset_probability, model.input
    )
    valid = None
    if data.valid.n_tokens:
        capped = data.valid.first_sentences(config.valid_tokens)
        valid = evaluation_batches(data, capped, by_sentence=False, model_input=model.input)
    source = None if init_from is None else Checkpoint.from_pretrained(init_from)
    torch.manual_seed(config.seed)
    indexer = data.indexer(model.input)
    bilm = BiLM(model, **indexer.sizes())
    if softmax is None:
        start = None if source is None else source.softmax
        softmax = _softmax_config(config, len(data.vocabulary), start)
    new_softmax = _softmax(data, model.projection_size, softmax)
    new = Checkpoint(bilm, data.tokenizer, indexer, new_softmax, data.vocabulary)
    notes = [] if source is None else start_from(source, new, name=str(init_from))
    return Setup(data, config, train, valid, config.n_steps(train), new, notes)


def _softmax_config(config: PretrainingConfig, vocabulary_size: int, source: Softmax | None) -> dict[str, Any]:
    """Return the kind and options of the softmax of a new run; ``auto`` takes those of ``source``.

    :raises InputError: the configuration asks for another kind than that of ``source``.
    """
    kind = config.softmax_kind(vocabulary_size)
    if source is None:
        return {"kind": kind}
    if config.softmax != "auto" and source.kind != kind:
        raise InputError(f"softmax: that of the model to start from is {source.kind}, not {config.softmax}")
    return source.config()


def _softmax(data: Corpus, projection_size: int, config: dict[str, Any]) -> Softmax:
    """Make the output weights.

    :raises InputError: an adaptive softmax is wanted over a vocabulary that is not in order of frequency.
    """
    softmax = make_softmax(config, vocabulary_size=len(data.vocabulary), projection_size=projection_size)
    n_head, counts = softmax.head_size, data.vocabulary.counts
    if sum(counts[:n_head]) < MIN_HEAD_SHARE * sum(sorted(counts, reverse=True)[:n_head]):
        raise InputError(
            f"{data.folder}: an adaptive softmax needs a vocabulary in order of frequency, and the first {n_head:,} "
            "words here are not the most frequent; choose --softmax full or sampled, or sort the --vocab of prepare"
        )
    softmax.init_bias_from_counts(counts)
    return softmax
