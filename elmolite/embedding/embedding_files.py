"""Vectors of the sentences of a file, written as they are computed: into one ``.npz`` or ``.h5`` file, or a folder."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from elmolite.data.text import Progress, read_lines
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.batching import BATCH_TOKENS
from elmolite.embedding.elmo import READ_AHEAD, ELMo
from elmolite.embedding.embedding_settings import EmbeddingSettings
from elmolite.embedding.layer_choice import LayerChoice
from elmolite.embedding.output import EmbeddingWriter
from elmolite.errors import InputError
from elmolite.utils import files
from elmolite.utils.config import Precision
from elmolite.utils.torch import best_device

CHUNK_SENTENCES = 2048
"""Sentences in memory at once; within them, batches are of sentences of like length."""


@dataclass(frozen=True)
class Embedded:
    """What has been written."""

    n_sentences: int
    n_tokens: int
    n_resumed: int = 0
    """Sentences that an earlier run had written."""
    n_blank: int = 0
    """Sentences without tokens."""

    def plus(self, n_sentences: int, n_tokens: int, *, n_resumed: int = 0) -> Embedded:
        """Return it with so many more."""
        return replace(
            self,
            n_sentences=self.n_sentences + n_sentences,
            n_tokens=self.n_tokens + n_tokens,
            n_resumed=self.n_resumed + n_resumed,
        )

    def describe(self) -> str:
        """Return it in words."""
        resumed = f", {self.n_resumed:,} of them by an earlier run" if self.n_resumed else ""
        blank = f", {self.n_blank:,} of them without tokens" if self.n_blank else ""
        return f"{self.n_sentences:,} sentences{resumed}{blank}, {self.n_tokens:,} tokens"


def embed_file(
    model: str | Path,
    text: str,
    output: str | Path,
    *,
    layers: LayerChoice = "all",
    batch_tokens: int = BATCH_TOKENS,
    dtype: str = "float32",
    pretokenized: bool = False,
    precision: Precision = "32-true",
    show_progress: bool = True,
) -> Embedded:
    """Embed a file of one sentence a line.

    :param text: a file, or ``-`` for standard input; a blank line gives an array without tokens.
    :param output: by its name an ``.npz`` file, whose array ``"i"`` is line i; an ``.h5`` or ``.hdf5`` file, as
        AllenNLP lays it out; or else a folder of parts (:mod:`elmolite.embedding.output`), which goes on where an
        earlier run was broken off. A file is written whole or not at all.
    :param layers: as in :meth:`ELMo.embed`.
    :param dtype: on disk: float32, float16 or, in a folder, bfloat16.
    :param pretokenized: cut lines at white space, whatever the model's own text was.
    :param precision: of the matrix products: see :attr:`ELMoModule.precision`.
    :raises InputError: the model, the text or the output cannot be used, or a vector is too large for float16.
    """
    output = Path(output)
    writer = _WRITERS.get(output.suffix)
    if writer is None and output.suffix[1:].isalpha():
        raise InputError(f"{output}: a file of vectors ends in {', '.join(_WRITERS)}; a folder's name has no ending")
    path = None if text == "-" else Path(text)
    if path is not None and (path.is_dir() or not path.exists()):
        raise InputError(f"{path}: no such file")
    settings = EmbeddingSettings(layers, batch_tokens, dtype, pretokenized, precision)
    settings.check(is_folder=writer is None)
    elmo = ELMo.from_pretrained(model, precision=precision).to(best_device())
    tokenizer = SentenceTokenizer.whitespace() if pretokenized else elmo.tokenizer
    lines = _Lines(path, tokenizer, max_tokens=_max_tokens(elmo, settings.layers), show_progress=show_progress)
    with lines:
        if writer is None:
            written = _write_folder(EmbeddingWriter(output, elmo, settings), lines)
        else:
            written = _write_file(writer, output, elmo, settings, lines)
    return replace(written, n_blank=lines.n_blank)


class _Lines:
    """The lines of a text as tokens, with a bar that moves when they have been embedded."""

    def __init__(
        self, path: Path | None, tokenizer: SentenceTokenizer, *, max_tokens: float, show_progress: bool
    ) -> None:
        self.name = str(path or "standard input")
        self.n_blank = 0
        self.progress = Progress(0 if path is None else path.stat().st_size)
        self._lines = read_lines(path, self.progress, drops_marks=True)
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._bar = tqdm(desc="embedding", unit="words", unit_scale=True, disable=None if show_progress else True)

    def __enter__(self) -> None:
        """Show the bar."""

    def __exit__(self, *exception: object) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each line and its tokens.

        :raises InputError: it has so many that there is no room for their vectors.
        """
        for number, line in enumerate(self._lines, start=1):
            tokens = self._tokenizer.tokens(line)
            if len(tokens) > self._max_tokens:
                raise InputError(
                    f"{self.name}, line {number}: {len(tokens):,} tokens in one sentence; this machine has memory for "
                    f"the vectors of {self._max_tokens:,.0f}"
                )
            self.n_blank += not tokens
            yield line, tokens

    def check_any(self, done: Embedded) -> None:
        """Refuse a text without a line.

        :raises InputError: there was none.
        """
        if done.n_sentences == 0:
            raise InputError(f"{self.name}: the file is empty")

    def done(self, n_tokens: int) -> None:
        """Say how many tokens more are written; how many there are, the share of the file that is read tells."""
        if self.progress.n_read and self.progress.n_total:
            self._bar.total = int((self._bar.n + n_tokens) * self.progress.n_total / self.progress.n_read)
        self._bar.update(n_tokens)


def _max_tokens(elmo: ELMo, layers: LayerChoice) -> float:
    """Return the length of a sentence whose vectors fill the memory of the machine, where that is known."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return math.inf
    n_layers = elmo.n_layers if layers == "all" else 1
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (n_layers * elmo.size * 4)


def _write_folder(writer: EmbeddingWriter, lines: _Lines) -> Embedded:
    done = Embedded(0, 0)
    sentences = (tokens for _, tokens in lines)
    for n_sentences, n_tokens in writer.skip(sentences):
        done = done.plus(n_sentences, n_tokens, n_resumed=n_sentences)
        lines.done(n_tokens)
    for n_sentences, n_tokens in writer.write(sentences):
        done = done.plus(n_sentences, n_tokens)
        lines.done(n_tokens)
    lines.check_any(done)
    writer.finish()
    return done


class _Npz:
    """``.npz``: an array a sentence."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[_Npz]:
        with files.writing(path) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            yield cls(archive)

    def add(self, number: int, line: str, vectors: NDArray[Any]) -> None:  # noqa: ARG002
        with self._archive.open(f"{number}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, vectors, allow_pickle=False)


class _Hdf5:
    """``.h5`` as ``allennlp elmo`` wrote it: a dataset a sentence, and JSON from lines to their numbers."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._numbers: dict[str, str] = {}

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[_Hdf5]:
        import h5py

        with files.writing(path) as file, h5py.File(file, "w") as opened:
            writer = cls(opened)
            yield writer
            index = opened.create_dataset("sentence_to_index", (1,), dtype=h5py.string_dtype())
            index[0] = json.dumps(writer._numbers)

    def add(self, number: int, line: str, vectors: NDArray[Any]) -> None:
        self._file[str(number)] = vectors
        self._numbers[line] = str(number)


_WRITERS: dict[str, type[_Npz] | type[_Hdf5]] = {".npz": _Npz, ".h5": _Hdf5, ".hdf5": _Hdf5}


def _write_file(
    kind: type[_Npz] | type[_Hdf5], output: Path, elmo: ELMo, settings: EmbeddingSettings, lines: _Lines
) -> Embedded:
    done = Embedded(0, 0)
    elmo.check_options(settings.layers, settings.batch_tokens)
    with kind.open(output) as writer:
        for chunk in _chunks(lines, READ_AHEAD * settings.batch_tokens):
            sentences = [tokens for _, tokens in chunk]
            vectors = elmo.embed(sentences, layers=settings.layers, batch_tokens=settings.batch_tokens)
            for number, ((line, _), each) in enumerate(zip(chunk, vectors, strict=True), start=done.n_sentences):
                writer.add(number, line, settings.convert(each).numpy())
            n_tokens = sum(map(len, sentences))
            done = done.plus(len(chunk), n_tokens)
            lines.done(n_tokens)
        lines.check_any(done)
    return done


def _chunks(lines: Iterable[tuple[str, list[str]]], max_tokens: int) -> Iterator[list[tuple[str, list[str]]]]:
    """Group lines, of so many tokens or one line of more."""
    chunk: list[tuple[str, list[str]]] = []
    n_tokens = 0
    for line, tokens in lines:
        if chunk and (n_tokens + len(tokens) > max_tokens or len(chunk) == CHUNK_SENTENCES):
            yield chunk
            chunk, n_tokens = [], 0
        chunk.append((line, tokens))
        n_tokens += len(tokens)
    if chunk:
        yield chunk
