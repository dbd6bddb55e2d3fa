"""Vectors of the sentences of a file, written as they are computed: into one ``.npz`` or ``.h5`` file, or a folder."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from elmolite import files
from elmolite.elmo import ELMo
from elmolite.embedding_folder import EmbeddingWriter
from elmolite.embedding_settings import EmbeddingSettings
from elmolite.errors import InputError
from elmolite.layer_choice import LayerChoice
from elmolite.modules import best_device
from elmolite.precision import Precision
from elmolite.sentence_batches import BATCH_TOKENS
from elmolite.text import Progress, read_lines
from elmolite.tokenization import SentenceTokenizer

CHUNK_SENTENCES = 2048
"""Sentences in memory at once; within them, batches are of sentences of like length."""


@dataclass(frozen=True)
class Embedded:
    """What has been written."""

    n_sentences: int
    n_tokens: int
    n_resumed: int = 0
    """Sentences that an earlier run had written."""

    def plus(self, n_sentences: int, n_tokens: int, *, n_resumed: int = 0) -> Embedded:
        """Return it with so many more."""
        return Embedded(self.n_sentences + n_sentences, self.n_tokens + n_tokens, self.n_resumed + n_resumed)

    def describe(self) -> str:
        """Return it in words."""
        resumed = f", {self.n_resumed:,} of them by an earlier run" if self.n_resumed else ""
        return f"{self.n_sentences:,} sentences{resumed}, {self.n_tokens:,} tokens"


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
        AllenNLP lays it out; or else a folder of parts (:mod:`elmolite.embedding_folder`), which goes on where an
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
    lines = _Lines(path, tokenizer, show_progress=show_progress)
    with lines:
        if writer is None:
            written = _write_folder(EmbeddingWriter(output, elmo, settings), lines)
        else:
            written = _write_file(writer, output, elmo, settings, lines)
    return written


class _Lines:
    """The lines of a text as tokens, with a bar that moves when they have been embedded."""

    def __init__(self, path: Path | None, tokenizer: SentenceTokenizer, *, show_progress: bool) -> None:
        self._path = path
        self.progress = Progress(0 if path is None else path.stat().st_size)
        self._lines = read_lines(path, self.progress)
        self._tokenizer = tokenizer
        self._bar = tqdm(desc="embedding", unit="words", unit_scale=True, disable=None if show_progress else True)

    def __enter__(self) -> None:
        """Show the bar."""

    def __exit__(self, *exception: object) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def __iter__(self) -> Iterator[str]:
        """Yield each line."""
        return iter(self._lines)

    def tokens(self, line: str) -> list[str]:
        """Return the tokens of a line."""
        return self._tokenizer.tokens(line)

    def check_any(self, done: Embedded) -> None:
        """Refuse a text without a line.

        :raises InputError: there was none.
        """
        if done.n_sentences == 0:
            raise InputError(f"{self._path or 'standard input'}: the file is empty")

    def done(self, n_tokens: int) -> None:
        """Say how many tokens more are written; how many there are, the share of the file that is read tells."""
        if self.progress.n_read and self.progress.n_total:
            self._bar.total = int((self._bar.n + n_tokens) * self.progress.n_total / self.progress.n_read)
        self._bar.update(n_tokens)


def _write_folder(writer: EmbeddingWriter, lines: _Lines) -> Embedded:
    done = Embedded(0, 0)
    sentences = map(lines.tokens, lines)
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
        from elmolite.legacy.hdf5 import import_h5py

        h5py = import_h5py()
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
    left = iter(lines)
    with kind.open(output) as writer:
        while chunk := list(islice(left, CHUNK_SENTENCES)):
            sentences = [lines.tokens(line) for line in chunk]
            vectors = elmo.embed(sentences, layers=settings.layers, batch_tokens=settings.batch_tokens)
            for number, (line, each) in enumerate(zip(chunk, vectors, strict=True), start=done.n_sentences):
                writer.add(number, line, settings.convert(each).numpy())
            n_tokens = sum(map(len, sentences))
            done = done.plus(len(chunk), n_tokens)
            lines.done(n_tokens)
        lines.check_any(done)
    return done
