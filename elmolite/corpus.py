r"""A tokenised corpus on disk, memory-mapped, and the batches that training and evaluation read from it.

The folder holds, besides ``vocab.txt``, ``tokenizer.json`` and, for Unicode characters, ``characters.json``:

=====================  ======================================================================================
``corpus.json``        counts, and the size and checksum of every other file; written last
``words.txt``          the distinct word forms; form i + 2 is line i (0 is ``<S>``, 1 is ``</S>``)
``characters.npy``     their character ids, (number of forms, 50)
``vocab_ids.npy``      their ids in the softmax vocabulary, (number of forms)
``*.tokens.npy``       ``train`` and ``valid``: the forms of all sentences on end, ``<S>`` in front of each
``*.sentences.npy``    where each sentence begins in the tokens, and the end
``*.documents.npy``    which sentence each document begins with, and the end
=====================  ======================================================================================

A sentence of n tokens takes n + 1 positions. At position j the forward model reads ``<S> w1 .. wn``\ [j] and predicts
``w1 .. wn </S>``\ [j], the backward model reads ``</S> wn .. w1``\ [j] and predicts ``wn .. w1 <S>``\ [j]; so a
window of positions covers the same sentences for both. What a batch holds depends on (corpus, seed, step) alone.

Shapes: B rows, T positions, U distinct word forms of the batch, C characters.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elmolite import files
from elmolite.errors import InputError
from elmolite.token_indexers import MAX_CHARACTERS, TokenIndexer, UnicodeIndexer, WordIndexer, load_characters
from elmolite.tokenization import FILE_NAME as TOKENIZER_FILE
from elmolite.tokenization import SentenceTokenizer
from elmolite.vocab import SPECIALS, Vocabulary

FORMAT_VERSION = 2
SUMMARY_FILE = "corpus.json"
VOCAB_FILE = "vocab.txt"
IGNORED = -100
"""The target of a position behind the end of a row; no loss counts it."""

_BEGIN_SENTENCE, _END_SENTENCE = 0, 1
_ORDER, _RESETS = 0, 1  # what a random stream is for, so that no two are alike


@dataclass
class Split:
    """Sentences on end, of the training or of the held-out text."""

    tokens: NDArray[np.uint32]  # (number of positions): word forms
    sentences: NDArray[np.int64]  # (n_sentences + 1): offsets in tokens
    documents: NDArray[np.int64]  # (n_documents + 1): offsets in sentences

    @property
    def n_sentences(self) -> int:
        """Number of sentences."""
        return len(self.sentences) - 1

    @property
    def n_documents(self) -> int:
        """Number of documents."""
        return len(self.documents) - 1

    @property
    def n_tokens(self) -> int:
        """Number of tokens, sentence marks not counted."""
        return len(self.tokens) - self.n_sentences

    def first_sentences(self, max_tokens: int) -> Split:
        """Return as many whole sentences from the start as have at most ``max_tokens`` tokens, at least one."""
        tokens_before = self.sentences - np.arange(len(self.sentences))
        n = max(1, int(np.searchsorted(tokens_before, max_tokens, side="right")) - 1)
        documents = self.documents[self.documents < n]
        return Split(self.tokens[: self.sentences[n]], self.sentences[: n + 1], np.append(documents, n))


class Corpus:
    """A corpus folder that :func:`elmolite.preparation.prepare` made."""

    def __init__(self, folder: Path, summary: dict[str, Any]) -> None:
        self.folder = folder
        self.summary = summary
        self.vocabulary = Vocabulary.load(folder / VOCAB_FILE)
        self.tokenizer = SentenceTokenizer.load(folder / TOKENIZER_FILE)
        self.characters = load_characters(folder, summary["files"])
        self._character_rows: NDArray[np.int32] = self._map("characters")
        self.vocab_ids: NDArray[np.int32] = self._map("vocab_ids")
        self.train = self._split("train")
        self.valid = self._split("valid")

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Open a corpus.

        :raises InputError: the folder is not a whole corpus, or a file is damaged; the message names the file.
        """
        folder = Path(folder)
        return cls(folder, files.open_folder(folder, SUMMARY_FILE, kind="corpus", version=FORMAT_VERSION))

    def indexer(self, model_input: str) -> TokenIndexer:
        """Return how a model with this ``input`` ("characters" or "words") reads tokens."""
        return WordIndexer(self.vocabulary) if model_input == "words" else self.characters

    def rows(self, forms: NDArray[Any] | slice, model_input: str) -> NDArray[np.int32]:
        """Return word forms as a model with this ``input`` reads them, (number of forms, width)."""
        rows = self.vocab_ids[forms][:, None] if model_input == "words" else self._character_rows[forms]
        return rows.astype(np.int32)

    def fingerprint(self) -> str:
        """Return what tells this corpus from any other: a hash over the checksums of its files."""
        return hashlib.sha256(files.json_bytes(self.summary["files"])).hexdigest()

    def words(self) -> list[str]:
        """Return the word forms, ``<S>`` and ``</S>`` first, so that the index is the form."""
        text = (self.folder / "words.txt").read_text(encoding="utf-8")
        return ["<S>", "</S>", *text.split("\n")[:-1]]

    def sentences(self, split: Split, max_sentences: int) -> list[list[str]]:
        """Return the tokens of the first sentences of a split."""
        words = self.words()
        bounds = split.sentences[: max_sentences + 1]
        return [[words[form] for form in split.tokens[begin + 1 : end]] for begin, end in pairwise(bounds)]

    def describe(self) -> str:
        """Return the counts, for a person."""
        summary, train, valid = self.summary, self.summary["train"], self.summary["valid"]
        lines = [
            f"corpus      {self.folder}",
            f"training    {_counts(train)}",
            f"held out    {_counts(valid)}",
            f"vocabulary  {summary['vocabulary_size']:,} words of the softmax; "
            f"{summary['word_forms']:,} word forms with characters",
            f"characters  {self._describe_characters()}; words longer than {MAX_CHARACTERS - 2} are cut: "
            f"of bytes {summary['cut_share']['bytes']:.2%} of the tokens, of Unicode characters "
            f"{summary['cut_share']['unicode']:.2%}",
        ]
        if not valid["tokens"]:
            lines.append("warning     there is no held-out text: training will not be validated (see --valid)")
        if summary["vocabulary_size"] == len(SPECIALS):
            lines.append("warning     no word is frequent enough for the vocabulary (see --min-count)")
        return "\n".join(lines)

    def _describe_characters(self) -> str:
        if isinstance(self.characters, UnicodeIndexer):
            return f"{len(self.characters.characters):,} of Unicode"
        return "bytes"

    def _map(self, name: str) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
        except (ValueError, OSError) as error:
            raise InputError(f"{path}: not an array that can be read: {error}") from None

    def _split(self, name: str) -> Split:
        return Split(*(self._map(f"{name}.{part}") for part in ("tokens", "sentences", "documents")))


def _counts(part: dict[str, Any]) -> str:
    return (
        f"{part['tokens']:,} tokens, {part['sentences']:,} sentences, {part['documents']:,} documents, "
        f"{part['unknown_share']:.2%} outside the vocabulary"
    )


class Batch(NamedTuple):
    """A window of every row, for both directions."""

    forms: Tensor  # (U, C): the distinct word forms as rows of ids, and some rows of padding
    forward_inputs: Tensor  # (B, T): index into forms
    backward_inputs: Tensor  # (B, T)
    forward_targets: Tensor  # (B, T): ids in the vocabulary, or IGNORED
    backward_targets: Tensor  # (B, T)
    starts: Tensor | None  # (B, T): whether the state is set to zero before this position; none: nowhere
    n_targets: int  # of one direction

    def to(self, device: torch.device) -> Batch:
        """Copy the tensors to a device."""
        moved: dict[str, Any] = {k: part.to(device) for k, part in self._asdict().items() if isinstance(part, Tensor)}
        return self._replace(**moved)


def _rounded_up(rows: NDArray[np.int32], indexer: TokenIndexer) -> Tensor:
    """Pad (U, C) to one of few shapes: the CPU's kernels are made anew for each shape that they meet."""
    n_words, n_columns = rows.shape
    shape = -(-n_words // 64) * 64, min(-(-n_columns // 4) * 4, indexer.width)
    padded = np.full(shape, indexer.padding, np.int32)
    padded[:n_words, :n_columns] = rows
    return torch.from_numpy(padded)


@dataclass
class _Epoch:
    """The order of the documents of an epoch, dealt to the rows as contiguous streams of whole sentences."""

    document_starts: NDArray[np.int64]  # in split.tokens, in the order of this epoch
    document_ends_in_order: NDArray[np.int64]  # positions passed at the end of each document in this order
    row_bounds: NDArray[np.int64]  # (B + 1): the positions, in this order, at which the rows begin and end
    n_steps: int


@dataclass
class Streams:
    """The batches of a split: a pure function of the step.

    :param corpus: whose word forms and vocabulary are read.
    :param split: its training or held-out text.
    :param n_rows: B, the number of streams side by side.
    :param window: T, positions of a batch.
    :param seed: orders the documents of each epoch; ``None`` leaves them as they are.
    :param reset_probability: of starting a sentence from zero state; 0 carries the state through the whole stream,
        1 starts every sentence afresh.
    :param model_input: what the model reads, "characters" or "words".
    :raises InputError: there are fewer sentences than rows.
    """

    corpus: Corpus
    split: Split
    n_rows: int
    window: int
    seed: int | None = None
    reset_probability: float = 0.0
    model_input: str = "characters"
    _ends: list[int] = field(default_factory=list, repr=False)  # the step behind each epoch that was looked at
    _planned: tuple[int, _Epoch] | None = field(default=None, repr=False)  # the latest, which serves thousands of steps

    def __post_init__(self) -> None:
        if self.split.n_sentences < self.n_rows:
            raise InputError(
                f"{self.corpus.folder}: {self.split.n_sentences} sentences are too few for {self.n_rows} rows; "
                "give more text or fewer rows"
            )

    def epoch_steps(self, epoch: int) -> int:
        """Return the number of steps of an epoch; its last may be partly empty, and epochs differ by a few."""
        return self.end_of_epoch(epoch) - (self.end_of_epoch(epoch - 1) if epoch else 0)

    def end_of_epoch(self, epoch: int) -> int:
        """Return the step at which the next epoch begins."""
        while len(self._ends) <= epoch:
            n_steps = self._plan(len(self._ends)).n_steps
            self._ends.append((self._ends[-1] if self._ends else 0) + n_steps)
        return self._ends[epoch]

    def batch(self, step: int, *, rows: slice = slice(None)) -> Batch:
        """Return the batch of a step, or only some rows of it."""
        epoch = 0
        while step >= self.end_of_epoch(epoch):
            epoch += 1
        plan = self._plan(epoch)
        step_of_epoch = step - (self.end_of_epoch(epoch) - plan.n_steps)
        column = step_of_epoch * self.window + np.arange(self.window)
        at = plan.row_bounds[:-1, None][rows] + column  # (B, T)
        inside = at < plan.row_bounds[1:, None][rows]
        at = np.minimum(at, plan.row_bounds[-1] - 1)
        document = np.searchsorted(plan.document_ends_in_order, at, side="right")
        ends = plan.document_ends_in_order
        passed = np.where(document > 0, ends[document - 1], 0)
        at = plan.document_starts[document] + at - passed
        return self._read(at, inside, self._may_reset(column, step)[rows])

    def _read(self, at: NDArray[np.int64], inside: NDArray[np.bool_], may_reset: NDArray[np.bool_]) -> Batch:
        """Read positions of the split; every argument is (B, T)."""
        tokens, sentences = self.split.tokens, self.split.sentences
        sentence = np.searchsorted(sentences, at, side="right") - 1
        begin, end = sentences[sentence], sentences[sentence + 1]
        offset = at - begin
        forward = tokens[at]
        forward_next = np.where(at + 1 < end, tokens[np.minimum(at + 1, len(tokens) - 1)], _END_SENTENCE)
        backward = np.where(offset > 0, tokens[np.minimum(end - offset, len(tokens) - 1)], _END_SENTENCE)
        backward_next = tokens[end - 1 - offset]
        forms, index = np.unique(np.stack([forward, backward]), return_inverse=True)
        index = index.reshape(2, *at.shape)
        vocab_ids = self.corpus.vocab_ids
        indexer = self.corpus.indexer(self.model_input)
        starts = may_reset & (offset == 0)
        return Batch(
            _rounded_up(indexer.trim(self.corpus.rows(forms, self.model_input)), indexer),
            torch.from_numpy(index[0]),
            torch.from_numpy(index[1]),
            torch.from_numpy(np.where(inside, vocab_ids[forward_next], IGNORED).astype(np.int64)),
            torch.from_numpy(np.where(inside, vocab_ids[backward_next], IGNORED).astype(np.int64)),
            torch.from_numpy(starts) if starts.any() else None,
            int(inside.sum()),
        )

    def _may_reset(self, column: NDArray[np.int64], step: int) -> NDArray[np.bool_]:
        """Choose, (B, T), where a sentence that starts does so from zero state; at the start of an epoch all do."""
        if 0 < self.reset_probability < 1:
            draws = np.random.default_rng((_RESETS, self.seed or 0, step)).random((self.n_rows, self.window))
            may_reset = draws < self.reset_probability
        else:
            may_reset = np.full((self.n_rows, self.window), self.reset_probability == 1)
        may_reset[:, column == 0] = True
        return may_reset

    def _plan(self, epoch: int) -> _Epoch:
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self._make_plan(epoch)
        return self._planned[1]

    def _make_plan(self, epoch: int) -> _Epoch:
        split = self.split
        order = np.arange(split.n_documents)
        if self.seed is not None:
            order = np.random.default_rng((_ORDER, self.seed, epoch)).permutation(order)
        bounds = split.sentences[split.documents]
        starts, ends = bounds[:-1][order], bounds[1:][order]
        passed = np.cumsum(ends - starts)
        # The border of two rows is the first sentence border at or behind an equal share of the positions.
        shares = len(split.tokens) * np.arange(self.n_rows + 1) // self.n_rows
        document = np.minimum(np.searchsorted(passed, shares, side="right"), len(order) - 1)
        shift = starts[document] - np.where(document > 0, passed[document - 1], 0)
        rows = split.sentences[np.searchsorted(split.sentences, shares + shift)] - shift
        longest = int((rows[1:] - rows[:-1]).max())
        return _Epoch(starts, passed, rows, -(-longest // self.window))
