"""Setup of a pretraining run: corpus, model, warm start, number of steps; its configuration in the run folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elmolite.checkpoint import Checkpoint
from elmolite.data.bptt import BPTTBatches
from elmolite.data.corpus import Corpus
from elmolite.data.vocab import UNKNOWN_ID
from elmolite.errors import InputError
from elmolite.hub import MODEL_MANIFEST, model_folder
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import DROPOUT_FIELDS, BiLMConfig
from elmolite.nn.softmax import Softmax, make_softmax
from elmolite.pretraining import distributed
from elmolite.pretraining.config import RUN_FILE, RUN_VERSION, PretrainingConfig, RunConfig, read_run_config
from elmolite.pretraining.evaluation import evaluation_batches
from elmolite.utils import files
from elmolite.utils.console import n_of

MIN_HEAD_SHARE = 0.9
"""Share of the most frequent words' text that the head of an adaptive softmax must cover."""


@dataclass
class PretrainingRun:
    """Data, model and number of steps of a run."""

    corpus: Corpus
    config: PretrainingConfig
    train: BPTTBatches
    valid: BPTTBatches | None
    n_steps: int
    model: Checkpoint
    notes: list[str]  # on the warm start, for the user

    @classmethod
    def build(
        cls,
        config: PretrainingConfig,
        *,
        model: BiLMConfig,
        corpus: str | Path,
        init_from: str | Path | None = None,
        softmax: dict[str, Any] | None = None,
    ) -> PretrainingRun:
        """Open the corpus and create the model.

        :param init_from: model folder with the initial weights.
        :param softmax: kind and options of the softmax of the run to resume.
        :raises InputError: the corpus is too small, or the model in ``init_from`` has other sizes.
        """
        data = Corpus.open(corpus)
        if (n_positions := len(data.train.tokens)) < config.batch_size * config.bptt_length:
            raise InputError(
                f"{corpus}: the training text ({n_positions:,} positions) is smaller than a batch of "
                f"{config.batch_size} x {config.bptt_length}; use more text or a smaller `batch_size`"
            )
        train = BPTTBatches(
            data, data.train, config.batch_size, config.bptt_length, config.seed, config.reset_probability, model.input
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
        notes = [] if source is None else warm_start(source, new, name=str(init_from))
        return cls(data, config, train, valid, config.n_steps(train), new, notes)

    @property
    def validation_interval(self) -> int:
        """Steps between two validations."""
        return max(1, self.n_steps // self.config.n_validations)

    @property
    def softmax(self) -> Softmax:
        """Output weights."""
        assert self.model.softmax is not None
        return self.model.softmax

    def describe(self) -> str:
        """Return the sizes of the model, the text and the run in a few lines."""
        config, data = self.config, self.corpus
        n_negatives = config.negatives_of(self.softmax)
        kind = self.softmax.kind if n_negatives is None else f"sampled ({n_negatives} negatives)"
        accumulated = f"{config.accumulate_steps} x " if config.accumulate_steps > 1 else ""
        lines = [
            f"{self.model.bilm.n_parameters / 1e6:.1f} M parameters, {kind} softmax over {len(data.vocabulary):,} "
            f"words; {data.train.n_tokens:,} tokens; {n_of(self.n_steps, 'step')} of {accumulated}{config.batch_size} "
            f"x {config.bptt_length}; {config.precision}, seed {config.seed}",
            *self.notes,
        ]
        if self.valid is None:
            lines.append("no validation text: the last model is exported")
        else:
            n_valid, n_all = self.valid.split.n_tokens, data.valid.n_tokens
            share = "" if n_valid == n_all else f" of {n_all:,} (`valid_tokens`)"
            lines.append(f"validation on {n_valid:,}{share} tokens every {self.validation_interval:,} steps")
        return "\n".join(lines)

    def run_config(self, init_from: str | Path | None) -> RunConfig:
        """Return the configuration of the run, as JSON gives it back."""
        config: RunConfig = {
            "model": asdict(self.model.bilm.config),
            "training": asdict(self.config),
            "softmax": self.softmax.config(),
            "corpus": {"tokens": self.corpus.train.n_tokens, "sha256": self.corpus.fingerprint()},
        }
        if init_from is not None:
            config["init_from"] = {"sha256": files.file_entry(model_folder(init_from) / MODEL_MANIFEST)["sha256"]}
        return json.loads(json.dumps(config))  # type: ignore[no-any-return]


def _softmax_config(config: PretrainingConfig, vocabulary_size: int, source: Softmax | None) -> dict[str, Any]:
    """Return the kind and options of a new run's softmax; ``auto`` takes those of the model of a warm start."""
    kind = config.softmax_kind(vocabulary_size)
    if source is None:
        return {"kind": kind}
    if config.softmax != "auto" and source.kind != kind:
        raise InputError(f"softmax must be auto or {source.kind}, as in the model to start from, got {config.softmax}")
    return source.config()


def _softmax(data: Corpus, projection_size: int, config: dict[str, Any]) -> Softmax:
    """Create the softmax; an adaptive one needs a vocabulary sorted by frequency."""
    softmax = make_softmax(config, vocabulary_size=len(data.vocabulary), projection_size=projection_size)
    n_head, counts = softmax.head_size, data.vocabulary.counts
    if sum(counts[:n_head]) < MIN_HEAD_SHARE * sum(sorted(counts, reverse=True)[:n_head]):
        raise InputError(
            f"{data.folder}: an adaptive softmax needs a vocabulary sorted by frequency, but the first {n_head:,} "
            "words are not the most frequent; use `softmax='full'` or 'sampled', or sort the vocabulary"
        )
    softmax.init_bias_from_counts(counts)
    return softmax


@torch.no_grad()
def warm_start(source: Checkpoint, new: Checkpoint, *, name: str) -> list[str]:
    """Copy the weights of a trained model into a new one (domain adaptation).

    Words and characters that both models have keep their rows of the softmax and of the input table. New ones start
    with the row of the unknown word or character; in the softmax, new words and ``<UNK>`` share the probability of
    ``<UNK>``.

    :param new: a model of the same sizes and kind of softmax, whose words and characters may differ.
    :param name: name of the source in messages.
    :raises InputError: sizes or kinds of input differ.
    :returns: lines for the user on the rows that were kept.
    """
    for field in fields(BiLMConfig):
        before, now = (getattr(each.bilm.config, field.name) for each in (source, new))
        if field.name not in DROPOUT_FIELDS and before != now:
            raise InputError(
                f"{name}: sizes must be equal: the model has {field.name} {before}, got model.{field.name} {now}"
            )
    if type(source.indexer) is not type(new.indexer):
        raise InputError(f"{name}: the model reads {source.indexer.reads}, but the corpus has {new.indexer.reads}")
    old_table, table = source.bilm.token_encoder.table, new.bilm.token_encoder.table
    for old, fresh in zip(source.bilm.parameters(), new.bilm.parameters(), strict=True):
        if fresh is not table:
            fresh.copy_(old)
    new_ids, old_ids = _shared(source.indexer.names(), new.indexer.names())
    table.copy_(old_table[source.indexer.unknown_id].expand_as(table))
    table[new_ids] = old_table[old_ids]
    notes = [f"initialized from {name}: kept the vectors of {len(new_ids):,} of {len(table):,} {new.indexer.reads}"]
    if source.softmax is None or source.vocabulary is None or new.softmax is None or new.vocabulary is None:
        return [*notes, "initialized the softmax at random: the model has none"]
    new_ids, old_ids = _shared(source.vocabulary.words, new.vocabulary.words)
    new.softmax.copy_words(source.softmax, new_ids, old_ids, unknown_id=UNKNOWN_ID)
    return [*notes, f"kept the softmax rows of {len(new_ids):,} of {len(new.vocabulary):,} words"]


def _shared(old_names: Sequence[str], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the new and the old index of each name in both lists."""
    old_index = {name: index for index, name in enumerate(old_names)}
    pairs = [(index, old_index[name]) for index, name in enumerate(names) if name in old_index]
    new, old = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(dim=1)
    return new, old


def save_or_verify(out: Path, config: RunConfig, corpus: Path, *, resume: bool) -> RunConfig:
    """Write the configuration of a new run into its folder, or compare that of a resumed run with it; on rank zero.

    :param corpus: corpus folder, recorded so that a resumed run finds it.
    :returns: the configuration, with the ``init_from`` that the run was started with.
    :raises InputError: the configuration of the resumed run differs.
    """
    if not distributed.is_rank_zero():
        return config
    if not resume:
        content = {"format_version": RUN_VERSION, **config, "corpus_folder": str(corpus.resolve())}
        files.write_manifest(out / RUN_FILE, content)
        return config
    earlier = read_run_config(out)
    for name, before, now in _differences(earlier, config):
        raise InputError(
            f"{out}: the run was started with {name} = {before!r}, got {now!r}; settings cannot change "
            "(to train on with other settings, start a new run with `init_from`)"
        )
    return {**config, "init_from": earlier["init_from"]} if "init_from" in earlier else config


def assert_same_on_all_ranks(config: RunConfig) -> None:
    """Raise InputError on all ranks if they were started with different settings or corpora; a collective."""
    first, *others = distributed.all_gather_object(config)
    for rank, other in enumerate(others, 1):
        for name, expected, found in _differences(first, other):
            raise distributed.shared_error(
                f"all ranks need the same settings and corpus: rank {rank} has {name} = {found!r}, rank 0 {expected!r}"
            )


def _differences(one: RunConfig, other: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name and both values of each field of ``other`` that differs."""
    for part, values in other.items():
        for key, value in values.items():
            if (earlier := one.get(part, {}).get(key)) != value:
                yield f"{part}.{key}", earlier, value
