"""Resumable embedding output: a directory of safetensors shards; or one ``.npz`` or ``.h5`` file.

===========================  =================================================================================
``embedding.json``           settings, fingerprint of the model, whether the output is complete, and of each shard
                             the number of sentences and tokens, size and checksum
``part-00000.safetensors``   ``vectors``, (L, N, 2 P) for all layers or (N, 2 P) for one, of the N tokens of some
                             sentences, and ``offsets``, (S + 1): sentence i has the tokens ``offsets[i:i + 2]``
===========================  =================================================================================

A shard is written atomically and does not depend on the ones before it. Its checksum is verified when it is first read.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor
from tqdm.auto import tqdm

from elmolite.data.text import Progress, read_lines
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding import BATCH_TOKENS
from elmolite.embedding.batching import LayerSelection
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError, nearest
from elmolite.utils import files
from elmolite.utils.config import Precision, check_precision
from elmolite.utils.serialization import TensorFile
from elmolite.utils.torch import best_device

FORMAT_VERSION = 2
MANIFEST = "embedding.json"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PART_BYTES = 64 << 20
"""Size of the vectors at which a shard is complete: what an interrupted run loses at most."""

Counts = tuple[int, int]
"""Number of sentences and of tokens."""
ShardEntry = dict[str, Any]
"""Manifest entry of a shard: ``sentences``, ``tokens``, ``bytes`` and ``sha256``."""


@dataclass(frozen=True)
class EmbeddingSettings:
    """Settings of an embedding output; a run can be resumed with the same ones only."""

    layers: LayerSelection
    batch_tokens: int
    dtype: str
    pretokenized: bool
    precision: Precision

    def check(self, *, is_directory: bool) -> None:
        """Refuse an unknown precision or dtype, and bfloat16 in one file."""
        check_precision(self.precision)
        if self.dtype not in DTYPES:
            raise InputError(f"dtype: unknown {self.dtype!r}{nearest(self.dtype, DTYPES)}")
        if self.dtype == "bfloat16" and not is_directory:
            raise InputError("dtype bfloat16 does not exist in numpy and HDF5: write a directory, or use float16")

    def convert(self, vectors: NDArray[np.float32]) -> Tensor:
        """Return vectors in the output dtype."""
        converted = torch.from_numpy(vectors).to(DTYPES[self.dtype])
        if self.dtype == "float16" and bool(converted.isinf().any()):
            raise InputError("dtype float16 cannot hold this model's vectors: use bfloat16 or float32")
        return converted


@dataclass
class EmbeddingSummary:
    """Counts of an embedding output."""

    n_sentences: int = 0
    n_tokens: int = 0
    n_resumed: int = 0
    """Sentences of an earlier, interrupted run."""
    n_blank: int = 0
    """Sentences without tokens."""

    def describe(self) -> str:
        """Return the counts as text."""
        resumed = f", {self.n_resumed:,} of them by an earlier run" if self.n_resumed else ""
        blank = f", {self.n_blank:,} of them without tokens" if self.n_blank else ""
        return f"{self.n_sentences:,} sentences{resumed}{blank}, {self.n_tokens:,} tokens"


def embed_file(
    model: str | Path,
    text: str,
    output: str | Path,
    *,
    layers: LayerSelection = "all",
    batch_tokens: int = BATCH_TOKENS,
    dtype: str = "float32",
    pretokenized: bool = False,
    precision: Precision = "32-true",
    show_progress: bool = True,
) -> EmbeddingSummary:
    """Embed a text file with one sentence a line.

    :param text: a file, or ``-`` for standard input; a blank line gives an array without tokens.
    :param output: a ``.npz`` file, in which array ``"i"`` is line i; a ``.h5`` or ``.hdf5`` file in the layout of
        AllenNLP; or, without suffix, a directory (:mod:`elmolite.embedding.output`), in which an interrupted run is
        resumed. A file is written atomically.
    :param layers: as in :meth:`ELMo.embed`.
    :param dtype: of the output: float32, float16 or, in a directory, bfloat16.
    :param pretokenized: split lines at white space instead of by the model's tokenizer.
    :param precision: of the matrix products, see :attr:`ELMo.precision`.
    """
    output = Path(output)
    writer = _FILE_WRITERS.get(output.suffix)
    if writer is None and output.suffix[1:].isalpha():
        raise InputError(f"{output}: unknown suffix; expected {', '.join(_FILE_WRITERS)}, or none for a directory")
    path = None if text == "-" else Path(text)
    if path is not None and (path.is_dir() or not path.exists()):
        raise InputError(f"{path}: no such file")
    settings = EmbeddingSettings(layers, batch_tokens, dtype, pretokenized, precision)
    settings.check(is_directory=writer is None)
    elmo = ELMo.from_pretrained(model, precision=precision).to(best_device())
    tokenizer = SentenceTokenizer.whitespace() if pretokenized else elmo.tokenizer
    with tqdm(desc="embedding", unit="tokens", unit_scale=True, disable=None if show_progress else True) as bar:
        lines = _Lines(path, tokenizer, bar)
        if writer is None:
            _write_directory(EmbeddingWriter(output, elmo, settings), lines)
        else:
            _write_file(writer, output, elmo, settings, lines)
    return lines.summary


class _Lines:
    """Lines of a text with their tokens, counted when they have been embedded."""

    def __init__(self, path: Path | None, tokenizer: SentenceTokenizer, bar: tqdm[Any]) -> None:
        self.summary = EmbeddingSummary()
        self._name = str(path or "standard input")
        self._progress = Progress(0 if path is None else path.stat().st_size)
        self._lines = read_lines(path, self._progress, drops_marks=True)
        self._tokenizer = tokenizer
        self._bar = bar

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each line and its tokens."""
        for line in self._lines:
            tokens = self._tokenizer.tokens(line)
            self.summary.n_blank += not tokens
            yield line, tokens

    def count(self, n_sentences: int, n_tokens: int, *, are_resumed: bool = False) -> None:
        """Count embedded sentences and advance the bar; its total is estimated from the bytes read."""
        self.summary.n_sentences += n_sentences
        self.summary.n_tokens += n_tokens
        self.summary.n_resumed += n_sentences if are_resumed else 0
        if self._progress.n_read and self._progress.n_total:
            self._bar.total = int((self._bar.n + n_tokens) * self._progress.n_total / self._progress.n_read)
        self._bar.update(n_tokens)

    def check_not_empty(self) -> None:
        """Refuse a text without lines."""
        if self.summary.n_sentences == 0:
            raise InputError(f"{self._name}: the file is empty")


def _write_directory(writer: EmbeddingWriter, lines: _Lines) -> None:
    sentences = (tokens for _, tokens in lines)
    for counts in writer.skip(sentences):
        lines.count(*counts, are_resumed=True)
    for counts in writer.write(sentences):
        lines.count(*counts)
    lines.check_not_empty()
    writer.finish()


class _NpzWriter:
    """Writer of ``.npz`` files: one array for each sentence."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[_NpzWriter]:
        with files.writing(path) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            yield cls(archive)

    def add(self, number: int, line: str, vectors: NDArray[Any]) -> None:  # noqa: ARG002
        with self._archive.open(f"{number}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, vectors, allow_pickle=False)


class _Hdf5Writer:
    """Writer of ``.h5`` files in the layout of ``allennlp elmo``: a dataset for each sentence, and an index by line."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._numbers: dict[str, str] = {}

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[_Hdf5Writer]:
        import h5py

        with files.writing(path) as file, h5py.File(file, "w") as opened:
            writer = cls(opened)
            yield writer
            index = opened.create_dataset("sentence_to_index", (1,), dtype=h5py.string_dtype())
            index[0] = json.dumps(writer._numbers)

    def add(self, number: int, line: str, vectors: NDArray[Any]) -> None:
        self._file[str(number)] = vectors
        self._numbers[line] = str(number)


_FILE_WRITERS: dict[str, type[_NpzWriter] | type[_Hdf5Writer]] = {
    ".npz": _NpzWriter,
    ".h5": _Hdf5Writer,
    ".hdf5": _Hdf5Writer,
}


def _write_file(
    kind: type[_NpzWriter] | type[_Hdf5Writer], output: Path, elmo: ELMo, settings: EmbeddingSettings, lines: _Lines
) -> None:
    read_ahead: deque[tuple[str, list[str]]] = deque()

    def sentences() -> Iterator[list[str]]:
        for line, tokens in lines:
            read_ahead.append((line, tokens))
            yield tokens

    stream = elmo.embed_iter(sentences(), layers=settings.layers, batch_tokens=settings.batch_tokens)
    with kind.open(output) as writer:
        for number, vectors in enumerate(stream):
            line, tokens = read_ahead.popleft()
            writer.add(number, line, settings.convert(vectors).numpy())
            lines.count(1, len(tokens))
        lines.check_not_empty()


class EmbeddingWriter:
    """Writer of an embedding directory; resumes an interrupted run with the same settings."""

    def __init__(self, folder: Path, elmo: ELMo, settings: EmbeddingSettings) -> None:
        """Open the directory.

        :raises InputError: it contains other files, or the output of another model or other settings.
        """
        self.folder = folder
        self.elmo = elmo
        self.settings = settings
        elmo.check_options(settings.layers, settings.batch_tokens)
        self._shards: list[ShardEntry] = []
        self._earlier_shards: list[ShardEntry] = []
        self._last: list[list[str]] = []
        """Sentences of the last shard if it is not full."""
        self._header = {
            "format_version": FORMAT_VERSION,
            **asdict(settings),
            "part_bytes": PART_BYTES,
            "model": elmo.fingerprint(),
        }
        files.remove_stale(folder)
        if folder.is_dir() and any(folder.iterdir()):
            earlier, self._earlier_shards = _read_manifest(folder)
            for key, value in self._header.items():
                if earlier.get(key) != value:
                    raise InputError(
                        f"{folder}: cannot resume, {key} was {earlier.get(key)} and is now {value}; choose another "
                        "directory"
                    )

    def skip(self, sentences: Iterator[list[str]]) -> Iterator[Counts]:
        """Consume the sentences of an earlier run, and yield the counts of each of its shards."""
        for entry in self._earlier_shards:
            path = _shard_path(self.folder, len(self._shards))
            if not path.exists():
                return
            shard = _Shard(path, entry)
            chunk = list(islice(sentences, len(shard.offsets) - 1))
            if _digest(chunk) != shard.text_digest:
                raise InputError(f"{path}: cannot resume, the text has changed; choose another directory")
            self._shards.append(entry)
            self._last = [] if self._is_full(chunk) else chunk
            yield _counts(entry)

    def write(self, sentences: Iterator[list[str]]) -> Iterator[Counts]:
        """Embed and write the other sentences, and yield the counts of the new ones of each shard."""
        more = next(sentences, None)
        if more is None:
            return
        n_again, n_tokens_again = _counts(self._shards.pop()) if self._last else (0, 0)  # the text has been extended
        self._write_manifest(is_complete=False)
        for chunk in self._chunks(chain(self._last, [more], sentences)):
            lengths = [len(tokens) for tokens in chunk]
            self.elmo.word_cache.clear()  # its rounding would make the shard depend on the ones before it
            vectors = self.elmo.embed(chunk, layers=self.settings.layers, batch_tokens=self.settings.batch_tokens)
            tensors = {
                "vectors": self.settings.convert(np.concatenate(vectors, axis=-2)),
                "offsets": torch.tensor([0, *accumulate(lengths)]),
            }
            path = _shard_path(self.folder, len(self._shards))
            files.write_bytes(path, save(tensors, metadata={"text": _digest(chunk)}))
            self._shards.append({"sentences": len(chunk), "tokens": sum(lengths), **files.file_entry(path)})
            self._write_manifest(is_complete=False)
            yield len(chunk) - n_again, sum(lengths) - n_tokens_again
            n_again = n_tokens_again = 0

    def finish(self) -> None:
        """Mark the output as complete."""
        self._write_manifest(is_complete=True)

    def _write_manifest(self, *, is_complete: bool) -> None:
        content = {**self._header, "is_complete": is_complete, "parts": self._shards}
        files.write_manifest(self.folder / MANIFEST, content)

    def _n_bytes(self, tokens: Sequence[str]) -> int:
        n_layers = self.elmo.n_layers if self.settings.layers == "all" else 1
        return max(1, len(tokens)) * n_layers * self.elmo.size * DTYPES[self.settings.dtype].itemsize

    def _is_full(self, chunk: list[list[str]]) -> bool:
        return sum(map(self._n_bytes, chunk)) >= PART_BYTES

    def _chunks(self, sentences: Iterable[list[str]]) -> Iterator[list[list[str]]]:
        """Group sentences to shards."""
        chunk: list[list[str]] = []
        n_bytes = 0
        for tokens in sentences:
            chunk.append(tokens)
            n_bytes += self._n_bytes(tokens)
            if n_bytes >= PART_BYTES:
                yield chunk
                chunk, n_bytes = [], 0
        if chunk:
            yield chunk


class EmbeddingFolder:
    """Reader of an embedding directory: ``folder[i]`` has the vectors of line i."""

    def __init__(self, folder: str | Path) -> None:
        """Open a complete directory."""
        self.folder = Path(folder)
        content, self._shards = _read_manifest(self.folder)
        if not content.get("is_complete"):
            raise InputError(f"{self.folder}: incomplete; run the same elmolite embed again to resume it")
        for number, entry in enumerate(self._shards):
            path = _shard_path(self.folder, number)
            with _hint_to_embed_again():
                files.check_size(path, entry)
            if 8 * entry["sentences"] > entry["bytes"]:  # list() allocates len(self)
                raise InputError(f"{path}: too small for the {entry['sentences']:,} sentences of {MANIFEST}")
        self._begins: list[int] = [0, *accumulate(entry["sentences"] for entry in self._shards)]
        self._verified: set[int] = set()

    def __len__(self) -> int:
        """Return the number of sentences."""
        return self._begins[-1]

    def __getitem__(self, number: int) -> NDArray[np.float32]:
        """Return the vectors of a sentence in float32, (L, tokens, 2 P) or (tokens, 2 P)."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"sentence {number} of {len(self)}")
        number %= len(self)
        shard = bisect_right(self._begins, number) - 1
        return self._shard(shard)[number - self._begins[shard]]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors of each sentence, shard by shard."""
        for number in range(len(self._shards)):
            yield from self._shard(number).read_all()

    def _shard(self, number: int) -> _Shard:
        shard = _Shard(_shard_path(self.folder, number), self._shards[number], verify=number not in self._verified)
        self._verified.add(number)
        return shard


class _Shard:
    """Reader of one shard."""

    def __init__(self, path: Path, entry: ShardEntry, *, verify: bool = True) -> None:
        """:param verify: compare the checksum."""
        if verify:
            with _hint_to_embed_again():
                files.check_file(path, entry)
        self._file = TensorFile(path)
        self.text_digest = self._file.metadata.get("text")
        shape, offsets_shape = (self._file.shapes.get(name, ()) for name in ("vectors", "offsets"))
        self.offsets: list[int] = []
        if len(offsets_shape) == 1:
            with self._file.opened() as file:
                self.offsets = file.get_tensor("offsets").tolist()
        is_whole = len(shape) in (2, 3) and self.offsets[:1] == [0] and self.offsets[-1] == shape[-2]
        are_integers = all(type(each) is int for each in self.offsets)
        if (
            not (is_whole and are_integers)
            or self.offsets != sorted(self.offsets)
            or _counts(entry) != (len(self.offsets) - 1, self.offsets[-1])
        ):
            raise InputError(f"{path}: offsets do not match the vectors or {MANIFEST}")

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        """Read the vectors of one sentence."""
        begin, end = self.offsets[row : row + 2]
        with self._file.opened() as file:
            vectors = file.get_slice("vectors")
            tensor: Tensor = vectors[:, begin:end] if len(vectors.get_shape()) == 3 else vectors[begin:end]
            return tensor.float().numpy()

    def read_all(self) -> list[NDArray[np.float32]]:
        """Read the vectors of all sentences."""
        with self._file.opened() as file:
            vectors = file.get_tensor("vectors").float().numpy()
        return np.split(vectors, self.offsets[1:-1], axis=-2)


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05}.safetensors"


@contextmanager
def _hint_to_embed_again() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}; or delete it and all later parts, and embed again") from None


def _counts(entry: ShardEntry) -> Counts:
    return entry["sentences"], entry["tokens"]


def _read_manifest(folder: Path) -> tuple[dict[str, Any], list[ShardEntry]]:
    """Return the manifest of a directory and its entries of shards."""
    path = folder / MANIFEST
    content = files.read_manifest(path, kind="embedding", version=FORMAT_VERSION)
    entries = content.get("parts")
    types = {"sentences": int, "tokens": int, "bytes": int, "sha256": str}
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and {key: type(entry[key]) for key in entry} == types and min(_counts(entry)) >= 0
        for entry in entries
    ):
        raise InputError(f"{path}: 'parts' must have {', '.join(types)} of each part")
    return content, entries


def _digest(sentences: list[list[str]]) -> str:
    digest = hashlib.sha256()
    for tokens in sentences:
        digest.update(files.json_line(tokens))
    return digest.hexdigest()
