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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from elmolite.data.text import Progress, check_file, read_lines
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.batching import LayerSelection
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError, check_choice
from elmolite.hub import EMBEDDING_MANIFEST as MANIFEST
from elmolite.utils import files, folders
from elmolite.utils.config import EmbeddingPrecision
from elmolite.utils.console import ProgressBar, n_of
from elmolite.utils.serialization import TensorFile
from elmolite.utils.torch import best_device

FORMAT_VERSION = 2
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PART_BYTES = 64 << 20
"""Size of the vectors at which a shard is complete: what an interrupted run loses at most."""

ShardEntry = dict[str, Any]
"""Manifest entry of a shard: ``sentences``, ``tokens``, ``bytes`` and ``sha256``."""


@dataclass(frozen=True)
class EmbeddingSettings:
    """Settings of an embedding output; a run can be resumed with the same ones only."""

    layers: LayerSelection
    batch_tokens: int
    dtype: str
    pretokenized: bool
    precision: EmbeddingPrecision

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
        return f"{n_of(self.n_sentences, 'sentence')}{resumed}{blank}, {n_of(self.n_tokens, 'token')}"


def embed_file(
    model: str | Path,
    text: str,
    output: str | Path,
    *,
    layers: LayerSelection = "all",
    batch_tokens: int | None = None,
    dtype: str = "float32",
    pretokenized: bool = False,
    precision: EmbeddingPrecision = "32-true",
    show_progress: bool = True,
) -> EmbeddingSummary:
    """Embed a text file with one sentence per line.

    >>> embed_file("mini-en", "text.txt", "vectors", layers="top", show_progress=False).describe()
    '40 sentences, 280 tokens'

    :param text: a file, or ``-`` for standard input; a blank line gives an array without tokens.
    :param output: a ``.npz`` file, in which array ``"i"`` is line i; a ``.h5`` or ``.hdf5`` file in the layout of
        AllenNLP; or, without suffix, a directory (:mod:`elmolite.embedding.output`), in which an interrupted run is
        resumed. A file is written atomically.
    :param layers: as in :meth:`ELMo.embed`.
    :param dtype: of the output: float32, float16 or, in a directory, bfloat16.
    :param pretokenized: split lines at white space instead of by the model's tokenizer.
    :param precision: of the matrix products, see :attr:`ELMo.precision`.
    :param show_progress: show a progress bar.
    """
    output = Path(output)
    if output == Path("-"):
        raise InputError("output must be a file or folder, not standard output (-)")
    open_file = FILE_WRITERS.get(output.suffix)
    if open_file is None and output.suffix[1:].isalpha():
        raise InputError(f"{output}: unknown suffix; expected {', '.join(FILE_WRITERS)}, or none for a folder")
    check_choice("dtype", dtype, DTYPES)
    if dtype == "bfloat16" and open_file is not None:
        raise InputError("bfloat16 does not exist in numpy and HDF5: write a folder, or use float16")
    check_file(text)
    path = None if text == "-" else Path(text)
    elmo = ELMo.from_pretrained(model).to(best_device())
    elmo.precision = precision  # on the device, which is refused before anything is written
    batch_tokens = elmo.check_options(layers, batch_tokens)
    settings = EmbeddingSettings(layers, batch_tokens, dtype, pretokenized, precision)
    tokenizer = SentenceTokenizer.whitespace() if pretokenized else elmo.tokenizer
    progress = Progress(0 if path is None else path.stat().st_size)
    lines = read_lines(path, progress, drops_marks=True)
    if (first := next(lines, None)) is None:
        raise InputError(f"{path or 'standard input'}: the file is empty")
    tokenized = ((line, tokenizer.tokens(line)) for line in chain([first], lines))
    if open_file is None:
        written = EmbeddingWriter(output, elmo, settings).write(tokens for _, tokens in tokenized)
    else:
        written = _write_file(open_file(output), elmo, settings, tokenized)
    summary = EmbeddingSummary()
    with ProgressBar("embedding", unit="tokens", is_estimate=True, show=show_progress) as bar:
        for sentences, n_resumed in written:
            n_tokens = sum(map(len, sentences))
            summary.n_sentences += len(sentences)
            summary.n_tokens += n_tokens
            summary.n_resumed += n_resumed
            summary.n_blank += sum(not tokens for tokens in sentences)
            if progress.n_read and progress.n_total:
                bar.total = int((bar.n + n_tokens) * progress.n_total / progress.n_read)
            bar.update(n_tokens)
    return summary


Written = Iterator[tuple[Sequence[list[str]], int]]
"""Sentences whose vectors have been written, and how many of them by an earlier run."""
AddVectors = Callable[[int, str, NDArray[Any]], None]
"""Writes the vectors of a line: its number, the line, the vectors."""


@contextmanager
def _open_npz(path: Path) -> Iterator[AddVectors]:
    """Write an array for each line."""
    with files.writing(path) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:

        def add(number: int, _line: str, vectors: NDArray[Any]) -> None:
            with archive.open(f"{number}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, vectors, allow_pickle=False)

        yield add


@contextmanager
def _open_hdf5(path: Path) -> Iterator[AddVectors]:
    """Write the layout of ``allennlp elmo``: a dataset for each line, and an index by line."""
    import h5py

    numbers: dict[str, str] = {}
    with files.writing(path) as file, h5py.File(file, "w") as output:

        def add(number: int, line: str, vectors: NDArray[Any]) -> None:
            output[str(number)] = vectors
            numbers[line] = str(number)

        yield add
        output.create_dataset("sentence_to_index", (1,), dtype=h5py.string_dtype())[0] = json.dumps(numbers)


FILE_WRITERS: dict[str, Callable[[Path], AbstractContextManager[AddVectors]]] = {
    ".npz": _open_npz,
    ".h5": _open_hdf5,
    ".hdf5": _open_hdf5,
}


def _write_file(
    file: AbstractContextManager[AddVectors],
    elmo: ELMo,
    settings: EmbeddingSettings,
    tokenized: Iterator[tuple[str, list[str]]],
) -> Written:
    read_ahead: deque[tuple[str, list[str]]] = deque()

    def sentences() -> Iterator[list[str]]:
        for line, tokens in tokenized:
            read_ahead.append((line, tokens))
            yield tokens

    stream = elmo.embed_iter(sentences(), layers=settings.layers, batch_tokens=settings.batch_tokens)
    with file as add:
        for number, vectors in enumerate(stream):
            line, tokens = read_ahead.popleft()
            add(number, line, settings.convert(vectors).numpy())
            yield [tokens], 0


class EmbeddingWriter:
    """Writer of an embedding directory; resumes an interrupted run with the same settings."""

    def __init__(self, folder: Path, elmo: ELMo, settings: EmbeddingSettings) -> None:
        """Open the directory.

        :raises InputError: it contains other files, or the output of another model or other settings.
        """
        self.folder = folder
        self.elmo = elmo
        self.settings = settings
        self._shards: list[ShardEntry] = []
        self._earlier_shards: list[ShardEntry] = []
        self._header = {
            "format_version": FORMAT_VERSION,
            **asdict(settings),
            "part_bytes": PART_BYTES,
            "model": elmo.fingerprint(),
        }
        folders.check_writable(folder)
        files.remove_stale(folder)
        if folder.is_dir() and any(folder.iterdir()):
            if not (folder / MANIFEST).exists():
                raise InputError(f"{folder} exists already, and has no vectors to resume: choose another folder")
            earlier, self._earlier_shards = _read_manifest(folder)
            for key, value in self._header.items():
                if earlier.get(key) != value:
                    raise InputError(
                        f"{folder}: cannot resume, {key} was {earlier.get(key)} and is now {value}; choose another "
                        "folder"
                    )

    def write(self, sentences: Iterable[list[str]]) -> Written:
        """Embed and write sentences, shard by shard, except those of an earlier run."""
        for shard in self._split(sentences):
            number = len(self._shards)
            n_resumed = self._n_resumed(number, shard)
            if n_resumed == len(shard):
                self._shards.append(self._earlier_shards[number])
            else:  # new, or the text has been extended
                self._write_manifest(is_complete=False)
                self._write_shard(_shard_path(self.folder, number), shard)
                self._write_manifest(is_complete=False)
            yield shard, n_resumed
        if len(self._shards) < len(self._earlier_shards):
            raise self._text_has_changed(len(self._shards))
        self._write_manifest(is_complete=True)

    def _n_resumed(self, number: int, sentences: list[list[str]]) -> int:
        """Return how many sentences of a shard an earlier run has embedded."""
        path = _shard_path(self.folder, number)
        if number >= len(self._earlier_shards) or not path.exists():
            return 0
        shard = _Shard(path, self._earlier_shards[number])
        if _digest(sentences[: shard.n_sentences]) != shard.text_digest:
            raise self._text_has_changed(number)
        return shard.n_sentences

    def _text_has_changed(self, number: int) -> InputError:
        path = _shard_path(self.folder, number)
        return InputError(f"{path}: cannot resume, the text has changed; choose another folder")

    def _write_shard(self, path: Path, sentences: list[list[str]]) -> None:
        lengths = [len(tokens) for tokens in sentences]
        self.elmo.word_cache.clear()  # its rounding would make the shard depend on the ones before it
        options = self.settings
        vectors = self.elmo.embed(
            sentences, layers=options.layers, batch_tokens=options.batch_tokens, show_progress=False
        )
        tensors = {
            "vectors": self.settings.convert(np.concatenate(vectors, axis=-2)),
            "offsets": torch.tensor([0, *accumulate(lengths)]),
        }
        files.write_bytes(path, save(tensors, metadata={"text": _digest(sentences)}))
        self._shards.append({"sentences": len(sentences), "tokens": sum(lengths), **files.file_entry(path)})

    def _write_manifest(self, *, is_complete: bool) -> None:
        content = {**self._header, "is_complete": is_complete, "parts": self._shards}
        files.write_manifest(self.folder / MANIFEST, content)

    def _split(self, sentences: Iterable[list[str]]) -> Iterator[list[list[str]]]:
        """Split sentences into shards."""
        n_layers = self.elmo.n_layers if self.settings.layers == "all" else 1
        token_bytes = n_layers * self.elmo.size * DTYPES[self.settings.dtype].itemsize
        shard: list[list[str]] = []
        n_bytes = 0
        for tokens in sentences:
            shard.append(tokens)
            n_bytes += max(1, len(tokens)) * token_bytes
            if n_bytes >= PART_BYTES:
                yield shard
                shard, n_bytes = [], 0
        if shard:
            yield shard


class EmbeddingFolder:
    """Reader of an embedding directory: ``folder[i]`` has the vectors of line i, ``folder[i:j]`` a list of them.

    >>> _ = embed_file("mini-en", "text.txt", "embedded", layers="top", show_progress=False)
    >>> vectors = EmbeddingFolder("embedded")
    >>> vectors
    EmbeddingFolder('embedded', 40 sentences, 280 tokens)
    >>> vectors[0].shape
    (7, 256)
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a complete directory."""
        self.folder = Path(folder)
        content, self._shards = _read_manifest(self.folder)
        if not content.get("is_complete"):
            raise InputError(f"{self.folder}: incomplete; run the same elmolite embed again to resume it")
        for number, entry in enumerate(self._shards):
            with _hint_to_embed_again():
                files.check_size(_shard_path(self.folder, number), entry)
        self._begins: list[int] = [0, *accumulate(entry["sentences"] for entry in self._shards)]
        self._opened: dict[int, _Shard] = {}

    def __repr__(self) -> str:
        n_tokens = sum(entry["tokens"] for entry in self._shards)
        return f"EmbeddingFolder({str(self.folder)!r}, {n_of(len(self), 'sentence')}, {n_of(n_tokens, 'token')})"

    def __len__(self) -> int:
        """Return the number of sentences."""
        return self._begins[-1]

    @overload
    def __getitem__(self, number: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, number: slice) -> list[NDArray[np.float32]]: ...
    def __getitem__(self, number: int | slice) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        """Return the vectors of a sentence in float32, (L, tokens, 2 P) or (tokens, 2 P); of a slice, a list."""
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
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
        if number not in self._opened:
            self._opened[number] = _Shard(_shard_path(self.folder, number), self._shards[number])
        return self._opened[number]


class _Shard:
    """Reader of one shard."""

    def __init__(self, path: Path, entry: ShardEntry) -> None:
        """Verify the checksum, and read the offsets."""
        with _hint_to_embed_again():
            files.check_file(path, entry)
        self._file = TensorFile(path)
        self.text_digest = self._file.metadata.get("text")
        with self._file.opened() as file:
            offsets = file.get_tensor("offsets")
        shape = self._file.shapes.get("vectors", ())
        is_valid = (
            len(shape) in (2, 3)
            and (offsets.dtype, offsets.shape) == (torch.int64, (entry["sentences"] + 1,))
            and offsets[0] == 0
            and offsets[-1] == shape[-2] == entry["tokens"]
            and bool((offsets.diff() >= 0).all())
        )
        if not is_valid:
            raise InputError(f"{path}: offsets do not match the vectors or {MANIFEST}")
        self.n_sentences: int = entry["sentences"]
        self._offsets = offsets.numpy()

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        """Read the vectors of one sentence."""
        begin, end = self._offsets[row : row + 2].tolist()
        with self._file.opened() as file:
            vectors = file.get_slice("vectors")
            tensor: Tensor = vectors[:, begin:end] if len(vectors.get_shape()) == 3 else vectors[begin:end]
            return tensor.float().numpy()

    def read_all(self) -> list[NDArray[np.float32]]:
        """Read the vectors of all sentences."""
        with self._file.opened() as file:
            vectors = file.get_tensor("vectors").float().numpy()
        return np.split(vectors, self._offsets[1:-1], axis=-2)


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05}.safetensors"


@contextmanager
def _hint_to_embed_again() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}; or delete it, and embed again") from None


def _read_manifest(folder: Path) -> tuple[dict[str, Any], list[ShardEntry]]:
    """Return the manifest of a directory and its entries of shards."""
    path = folder / MANIFEST
    content = files.read_manifest(path, kind="embedding", version=FORMAT_VERSION)
    entries = content.get("parts")
    types = {"sentences": int, "tokens": int, "bytes": int, "sha256": str}
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and {key: type(entry[key]) for key in entry} == types and entry["sentences"] >= 0
        for entry in entries
    ):
        raise InputError(f"{path}: 'parts' must have {', '.join(types)} of each part")
    return content, entries


def _digest(sentences: list[list[str]]) -> str:
    digest = hashlib.sha256()
    for tokens in sentences:
        digest.update(files.json_line(tokens))
    return digest.hexdigest()
