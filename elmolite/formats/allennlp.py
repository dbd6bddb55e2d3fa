"""Weights of bilm-tf, as AllenNLP and simple_elmo read them too: ``options.json`` and an HDF5 file <-> :class:`BiLM`.

The bias is kept as it is stored and the forget bias of 1, which TensorFlow's cell adds, in the configuration; so what
is read and written again is the same bit for bit.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from elmolite.data.indexers import N_BYTE_IDS, ByteIndexer
from elmolite.errors import InputError, error_prefix
from elmolite.formats.hdf5_arrays import MAX_EXPANSION, StoredArray, stored_arrays
from elmolite.formats.hdf5_structures import Hdf5Error
from elmolite.formats.source import Options
from elmolite.nn import MAX_CHARACTERS
from elmolite.nn.bilm import MAX_LAYERS, BiLM, BiLMConfig

Array = NDArray[np.float32]
State = dict[str, torch.Tensor]

_PREFIXES = ("char_embed", "CNN", "RNN_")
"""Of what belongs to the language model; a file may hold more, as a softmax."""


def read_options(options: Options) -> BiLMConfig:
    """Read the sizes of a model.

    :raises InputError: a key is missing or misshapen; the message says what was expected.
    """
    if "char_cnn" not in options.content:
        raise InputError(f"{options.where}: 'char_cnn' is missing: models that read no characters cannot be read")
    lstm, cnn = options.part("lstm"), options.part("char_cnn")
    n_characters = cnn.whole("n_characters", N_BYTE_IDS)
    if n_characters not in (N_BYTE_IDS - 1, N_BYTE_IDS):
        raise InputError(f"{cnn.where}: 'n_characters' is {n_characters}; expected {N_BYTE_IDS - 1} or {N_BYTE_IDS}")
    width = cnn.whole("max_characters_per_token", MAX_CHARACTERS)
    if width != MAX_CHARACTERS:
        raise InputError(f"{cnn.where}: 'max_characters_per_token' is {width}; only {MAX_CHARACTERS} can be read")
    filters = cnn.filters("filters")
    n_cells, n_projected = lstm.whole("dim"), lstm.whole("projection_dim")
    has_projection = n_cells != n_projected
    with error_prefix(options.where):
        return BiLMConfig(
            filters=filters,
            character_embedding_size=cnn.part("embedding").whole("dim"),
            activation=cnn.choice("activation", ("relu", "tanh")),
            n_highway_layers=cnn.whole("n_highway", 0, at_most=MAX_LAYERS),
            projection_size=n_projected,
            cell_size=n_cells,
            n_layers=lstm.whole("n_layers", at_most=MAX_LAYERS),
            cell_clip=lstm.clip("cell_clip"),
            projection_clip=lstm.clip("proj_clip") if has_projection else None,  # TensorFlow clips what it projects
            use_residual=lstm.is_true("use_skip_connections", default=False),
            use_projection=has_projection,
            use_token_projection=sum(count for _, count in filters) != n_projected,
            forget_bias=1.0,
        )


def write_options(config: BiLMConfig) -> dict[str, Any]:
    """Return what :func:`read_options` reads.

    :raises InputError: the format has no way to say it.
    """
    check_writable(config)
    return {
        "lstm": {
            "use_skip_connections": config.use_residual,
            "projection_dim": config.projection_size,
            "cell_clip": config.cell_clip,
            "proj_clip": config.projection_clip,
            "dim": config.cell_size,
            "n_layers": config.n_layers,
        },
        "char_cnn": {
            "activation": config.activation,
            "filters": [list(each) for each in config.filters],
            "n_highway": config.n_highway_layers,
            "embedding": {"dim": config.character_embedding_size},
            "n_characters": N_BYTE_IDS,
            "max_characters_per_token": MAX_CHARACTERS,
        },
    }


def check_writable(config: BiLMConfig) -> None:
    """Refuse what the format cannot say.

    :raises InputError: the message names it.
    """
    n_filters = sum(count for _, count in config.filters)
    for is_other, what in (
        (config.input == "words", "a model that reads words"),
        (config.word_embedding_size > 0, "vectors of words beside characters"),
        (config.cell != "lstm", f"cells of the kind {config.cell}"),
        (config.forget_bias != 1, f"a forget bias of {config.forget_bias}: it is 1 there"),
        (
            config.use_projection == (config.cell_size == config.projection_size),
            "cells as many as the projection has numbers, where the output is projected",
        ),
        (
            config.use_token_projection == (n_filters == config.projection_size),
            "filters as many as the projection has numbers, where they are projected",
        ),
    ):
        if is_other:
            raise InputError(f"the HDF5 format of bilm-tf has no way to say this: {what}")


@dataclass(frozen=True)
class _Entry:
    """One array of the file, and the weights that it is."""

    key: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    read: Callable[[Array], tuple[Array, ...]]
    write: Callable[..., Array]


def _transposed(key: str, name: str, *shape: int) -> _Entry:
    return _Entry(key, (name,), shape, lambda array: (array.T,), lambda weight: weight.T)


def _as_it_is(key: str, name: str, *shape: int) -> _Entry:
    return _Entry(key, (name,), shape, lambda array: (array,), lambda weight: weight)


def _entries(config: BiLMConfig) -> Iterator[_Entry]:
    """Yield what the file of a model has."""
    n_filters, n_projected = sum(count for _, count in config.filters), config.projection_size
    encoder = "token_encoder."
    yield _Entry(
        "char_embed",
        (encoder + "embedding.weight",),
        (N_BYTE_IDS - 1, config.character_embedding_size),
        lambda array: (np.concatenate([np.zeros_like(array[:1]), array]),),  # the id of a padded token comes first
        lambda weight: weight[1:],
    )
    for i, (width, count) in enumerate(config.filters):
        yield _Entry(
            f"CNN/W_cnn_{i}",
            (f"{encoder}convolutions.{i}.weight",),
            (1, width, config.character_embedding_size, count),
            lambda array: (array[0].transpose(2, 1, 0),),
            lambda weight: weight.transpose(2, 1, 0)[None],
        )
        yield _as_it_is(f"CNN/b_cnn_{i}", f"{encoder}convolutions.{i}.bias", count)
    for i in range(config.n_highway_layers):
        for theirs, ours in (("carry", "gate"), ("transform", "transform")):
            name = f"{encoder}highways.{i}.{ours}"
            yield _transposed(f"CNN_high_{i}/W_{theirs}", f"{name}.weight", n_filters, n_filters)
            yield _as_it_is(f"CNN_high_{i}/b_{theirs}", f"{name}.bias", n_filters)
    if config.use_token_projection:
        yield _transposed("CNN_proj/W_proj", encoder + "projection.weight", n_filters, n_projected)
        yield _as_it_is("CNN_proj/b_proj", encoder + "projection.bias", n_projected)
    for direction, stack in enumerate(("forward_stack", "backward_stack")):
        for i in range(config.n_layers):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{i}/LSTMCell"
            yield from _cell_entries(config, cell, f"{stack}.layers.{i}")


def _cell_entries(config: BiLMConfig, cell: str, layer: str) -> Iterator[_Entry]:
    n_projected, n_gates = config.projection_size, 4 * config.cell_size
    yield _Entry(
        f"{cell}/W_0",
        (f"{layer}.input_weight", f"{layer}.recurrent_weight"),
        (2 * n_projected, n_gates),
        lambda array: (array[:n_projected].T, array[n_projected:].T),
        lambda inputs, recurrent: np.concatenate([inputs.T, recurrent.T]),
    )
    yield _as_it_is(f"{cell}/B", f"{layer}.bias", n_gates)
    if config.use_projection:
        yield _transposed(f"{cell}/W_P_0", f"{layer}.projection_weight", config.cell_size, n_projected)


def read_weights(file: Path | io.BytesIO, where: str, config: BiLMConfig) -> BiLM:
    """Read a model's weights; it comes in evaluation mode, on the CPU.

    :param where: what messages call the file.
    :raises InputError: it is no HDF5 file, or an array is missing, misshapen or too many; the message names it.
    """
    content = _content(file, where)
    n_wanted = sum(4 * math.prod(entry.shape) for entry in _entries(config))
    if n_wanted > MAX_EXPANSION * len(content):
        raise InputError(
            f"{where}: has {len(content):,} bytes; the weights of a model with these options take {n_wanted:,}"
        )
    try:
        arrays = dict(stored_arrays(content, _PREFIXES))
    except Hdf5Error as error:
        raise InputError(f"{where}: not an HDF5 file that can be read: {error}") from None
    state = _read_state(arrays, where, config)
    with torch.device("meta"):
        bilm = BiLM(config, **ByteIndexer().sizes())
    bilm.load_state_dict(state, assign=True)
    return bilm.eval()


def write_weights(file: IO[bytes], bilm: BiLM) -> None:
    """Write a model's weights.

    :raises InputError: the format has no way to say it.
    """
    check_writable(bilm.config)
    h5py = import_h5py()
    state = {name: tensor.detach().cpu().float().numpy() for name, tensor in bilm.state_dict().items()}
    with h5py.File(file, "w") as written:
        for entry in _entries(bilm.config):
            written[entry.key] = entry.write(*(state[name] for name in entry.names))


def import_h5py() -> Any:
    """Return the library for HDF5.

    :raises InputError: it is not installed; the message says how to.
    """
    try:
        import h5py
    except ImportError:
        raise InputError("HDF5 files need h5py, which is not installed: pip install 'elmolite[legacy]'") from None
    return h5py


def _content(file: Path | io.BytesIO, where: str) -> memoryview:
    if isinstance(file, io.BytesIO):
        return file.getbuffer()
    try:
        return memoryview(np.memmap(file, np.uint8, "r"))  # type: ignore[arg-type]
    except (OSError, ValueError) as error:  # of an empty file, or a file system that maps none
        raise InputError(f"{where}: cannot be read: {error}") from None


def _read_state(arrays: Mapping[str, StoredArray], where: str, config: BiLMConfig) -> State:
    entries = {entry.key: entry for entry in _entries(config)}
    strange = next((key for key in arrays if key not in entries), None)
    if strange is not None:
        raise InputError(f"{where}: holds {strange!r}, which is not of a model with these options")
    state: State = {}
    for key, entry in entries.items():
        if key not in arrays:
            raise InputError(f"{where}: {key!r} is missing; expected an array {entry.shape}")
        array = arrays[key]
        if array.shape != entry.shape or array.dtype is None or array.dtype.kind != "f":
            kind = array.dtype or "of another type,"
            raise InputError(f"{where}: {key!r} is {kind} {array.shape}; expected float32 {entry.shape}")
        try:
            parts = entry.read(np.array(array.read(), np.float32))
        except Hdf5Error as error:
            raise InputError(f"{where}: {key!r} cannot be read: {error}") from None
        for name, part in zip(entry.names, parts, strict=True):
            state[name] = torch.from_numpy(np.ascontiguousarray(part))
    return state
