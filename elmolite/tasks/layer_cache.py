"""Layer cache: the layers of a frozen language model on disk, computed once and not in every epoch.

An entry belongs to a set of sentences, a model (its weights and how it reads tokens) and a dtype; a change of one of
them makes another entry. It is a folder, ``layers-`` and its key, that is written whole or not at all:

==================  ===========================================================================================
``layers.npy``      memory-mapped: a row of zeros, then a row for each token of the distinct sentences, longest
                    sentence first. A row is the token vector (P), which is layer 0 twice over, and the other
                    layers (2 P each)
``entry.json``      size and checksum of the array, and what it was computed from
==================  ===========================================================================================

Entries are never removed: delete the folder to free its space.

Shapes: B sentences, T tokens, N tokens of all distinct sentences, L layers, P projection size.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from elmolite.embedding.batching import BATCH_TOKENS, batches_by_length
from elmolite.embedding.elmo import ELMo, Sentence
from elmolite.errors import InputError
from elmolite.tasks.config import CacheDtype
from elmolite.utils import files, folders
from elmolite.utils.console import ProgressBar, byte_size, n_of

logger = logging.getLogger("elmolite")

FORMAT_VERSION = 2
MANIFEST = "entry.json"
_LAYERS_FILE = "layers.npy"
_FORMAT = "rows of token vector and layers, 1"  # part of the key: another layout makes another entry


def default_folder() -> Path:
    """Return the user's cache folder on this platform."""
    if os.name == "nt":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "elmolite" / "cache"
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (caches if caches.is_absolute() else Path.home() / ".cache") / "elmolite"


class LayerCache:
    """Layers of sentences, indexed by the position of a sentence among those that the cache was built from."""

    def __init__(
        self,
        elmo: ELMo,
        sentences: Iterable[Sentence],
        folder: str | Path | None = None,
        *,
        dtype: CacheDtype = "float32",
        show_progress: bool = True,
    ) -> None:
        """Open the layers of sentences, after computing them if they are not in the cache.

        :param elmo: a frozen model.
        :param sentences: as :meth:`ELMo.embed` takes them; order and repetitions make no other entry.
        :param folder: of the cache; ``None`` for the user's.
        :param dtype: on disk. In float32 the layers are bit for bit those of :meth:`ELMo.embed` of the distinct
            sentences, longest first and then alphabetically; other batches differ by rounding.
        :raises InputError: the model is not frozen, the disk has too little space, or the vectors overflow float16.
        """
        if any(parameter.requires_grad for parameter in elmo.parameters()):
            raise InputError("the layers of a language model that is trained cannot be cached; freeze() it")
        tokens = [tuple(sentence) for sentence in elmo.tokenize(sentences)]
        distinct = sorted(set(tokens), key=lambda sentence: (-len(sentence), sentence))  # a batch is contiguous on disk
        folder = default_folder() if folder is None else Path(folder)
        files.remove_stale(folder)
        model = elmo.fingerprint()
        self.path = folder / f"layers-{_key(model, distinct, dtype)}"
        if not _is_complete(self.path):
            _write(self.path, elmo, model, distinct, np.dtype(dtype), show_progress=show_progress)
        self.n_layers = elmo.n_layers
        lengths = np.array([len(sentence) for sentence in distinct], np.int64)
        index = {sentence: number for number, sentence in enumerate(distinct)}
        positions = np.array([index[sentence] for sentence in tokens], np.int64)
        self._lengths = lengths[positions]
        self._offsets = (1 + lengths.cumsum() - lengths)[positions]
        self._rows = files.map_array(self.path / _LAYERS_FILE)  # (1 + N, (2 L - 1) P)

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self._lengths)

    def batch(self, sentences: Sequence[int] | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the layers of some sentences, as :meth:`ELMo.forward` does, in float32 on the CPU.

        :param sentences: indices into the sentences that the cache was built from, (B).
        :returns: the layers (L, B, T, 2 P), zero for padding; and the mask (B, T), true for tokens.
        """
        chosen = np.asarray(sentences, np.int64)
        lengths = self._lengths[chosen]
        positions = np.arange(lengths.max(initial=0))
        mask = positions < lengths[:, None]
        row_of_zeros = 0
        indices = np.where(mask, self._offsets[chosen][:, None] + positions, row_of_zeros)
        rows = torch.from_numpy(self._rows.take(indices, axis=0))
        width = rows.shape[-1] // (2 * self.n_layers - 1)
        layers = torch.empty(self.n_layers, *mask.shape, 2 * width)
        layers[0].view(*mask.shape, 2, width)[:] = rows[..., None, :width]
        layers[1:] = rows[..., width:].view(*mask.shape, self.n_layers - 1, 2 * width).movedim(-2, 0)
        return layers, torch.from_numpy(mask)


def _key(model: str, sentences: Sequence[Sequence[str]], dtype: CacheDtype) -> str:
    """Return a hash of everything that the layers depend on; ``model`` is the fingerprint."""
    digest = hashlib.sha256(files.json_line([_FORMAT, dtype, model]))
    for sentence in sentences:
        digest.update(files.json_line(sentence))
    return digest.hexdigest()[:32]


def _is_complete(path: Path) -> bool:
    """Return whether an entry exists and its checksums are right; a damaged one is removed with a warning."""
    if not path.is_dir():
        return False
    try:
        folders.open_folder(path, MANIFEST, kind="cache", version=FORMAT_VERSION)
    except (InputError, OSError) as error:
        logger.warning(f"{error}; the layers are computed again")
        folders.remove_shared_folder(path)
        return False
    return True


def _write(
    path: Path, elmo: ELMo, model: str, sentences: Sequence[Sequence[str]], dtype: np.dtype[Any], *, show_progress: bool
) -> None:
    """Compute an entry, batch by batch."""
    elmo.word_cache.clear()  # the rounding of its vectors depends on the batch in which they were computed
    n_tokens = sum(map(len, sentences))
    shape = (1 + n_tokens, (2 * elmo.n_layers - 1) * elmo.size // 2)
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    size = f"layers of {n_of(n_tokens, 'word')}: {byte_size(n_bytes)} in {path.parent}"
    existing = next(each for each in path.parents if each.exists())
    free = shutil.disk_usage(existing).free
    if n_bytes > free:
        raise InputError(
            f"{size}, which has {byte_size(free)} free: free some space, choose another folder (`cache`), or "
            "pass `cache=False`"
        )
    logger.log(logging.INFO if show_progress else logging.DEBUG, size)
    manifest = {
        "format_version": FORMAT_VERSION,
        "sentences": len(sentences),
        "words": n_tokens,
        "precision": dtype.name,
        "model": model,
    }
    with (
        folders.writing_shared_folder(path) as new,
        ProgressBar("computing layers", unit="words", total=n_tokens, show=show_progress) as bar,
    ):
        with files.writing(new / _LAYERS_FILE) as file:
            header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
            file.write(np.zeros(shape[1], dtype).data)
            for rows in _compute(elmo, sentences):
                file.write(_convert(rows, dtype).data)
                bar.update(len(rows))
        files.write_manifest(new / MANIFEST, {**manifest, "files": folders.file_entries(new)})


def _compute(elmo: ELMo, sentences: Sequence[Sequence[str]]) -> Iterator[NDArray[np.float32]]:
    """Yield the rows of sentences, longest first, in the batches in which :meth:`ELMo.embed` computes them."""
    width = elmo.size // 2
    for batch in batches_by_length([len(sentence) for sentence in sentences], BATCH_TOKENS):
        vectors = elmo.embed([sentences[i] for i in batch], show_progress=False)
        layers = np.concatenate(vectors, axis=1)  # (L, tokens, 2 P)
        yield np.concatenate([layers[0, :, :width], *layers[1:]], axis=1)


def _convert(rows: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    if np.abs(rows).max(initial=0) > np.finfo(dtype).max:
        raise InputError("cache dtype float16: the vectors of this model overflow; use float32")
    return np.ascontiguousarray(rows.astype(dtype))
