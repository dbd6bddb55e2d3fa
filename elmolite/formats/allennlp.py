"""AllenNLP, bilm-tf, simple_elmo and the NLPL repository: ``options.json`` and HDF5 weights <-> :class:`BiLM`.

The bias is kept as stored and the forget bias of 1, which TensorFlow's cell adds, is in the config; so a model that is
read and written again is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from elmolite.data.indexers import ByteIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import Vocabulary
from elmolite.errors import InputError, error_prefix
from elmolite.formats.source import EarlierModel, Options, Source
from elmolite.nn import MAX_CHARACTERS, N_BYTE_IDS
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import BiLMConfig
from elmolite.utils import files, folders
from elmolite.utils.torch import without_weights

OPTIONS_FILE, WEIGHTS_FILE = "options.json", "weights.hdf5"
"""Names of the files that :func:`save` writes."""

Array = NDArray[np.float32]

_HDF5_SUFFIXES = (".hdf5", ".h5")
_WEIGHTS_ENDINGS = ("weights", "model")
_PREFIXES = ("char_embed", "CNN", "RNN_")
"""Top-level names of the language model in a weights file; others, as a softmax, are ignored."""
_FILTERS = (1, 2, 3)
"""HDF5 filters that need no plugin: deflate, shuffle, fletcher32."""


def matches(source: Source) -> bool:
    """Return whether the user named files, or there are files with the usual endings."""
    return bool(source.named) or any(name.lower().endswith((*_HDF5_SUFFIXES, OPTIONS_FILE)) for name in source.names)


def load(source: Source) -> EarlierModel:
    """Read a model."""
    options, weights = _pair(source)
    config = _config(source.read_options(options))
    bilm = _read_weights(source, weights, config)
    return EarlierModel(bilm, SentenceTokenizer.whitespace(), ByteIndexer())


def _pair(source: Source) -> tuple[str, str]:
    """Return the names of the files with options and with weights."""
    weights = _weights_among(source)
    options = [name for name in source.names if name.lower().endswith(OPTIONS_FILE)]
    match source.named:
        case (name, other):
            return name, other
        case (name,) if name.lower().endswith(_HDF5_SUFFIXES):
            return _other_half(name, options, source, "options"), name
        case (name,):
            return name, _other_half(name, weights, source, "weights")
    if len(weights) != 1:
        found = f"several: {', '.join(weights)}; name one" if weights else "none"
        raise InputError(f"{source.place}: expected a file named *weights.hdf5 or model.hdf5, found {found}")
    return _other_half(weights[0], options, source, "options"), weights[0]


def _weights_among(source: Source) -> list[str]:
    """Return the HDF5 files named as weights; a folder may have HDF5 files of other kinds."""
    found = [name for name in source.names if name.lower().endswith(_HDF5_SUFFIXES)]
    named = [name for name in found if Path(name).stem.lower().endswith(_WEIGHTS_ENDINGS)]
    return named or (found if len(found) == 1 else [])


def _other_half(name: str, candidates: list[str], source: Source, kind: str) -> str:
    """Return the candidate with the same beginning as a file, or the only one."""
    found = [each for each in candidates if _beginning(each) == _beginning(name)] or candidates
    if len(found) != 1:
        if not found:
            raise InputError(f"{source.where(name)}: not a model, or its {kind} are missing from its folder")
        several = f"several: {', '.join(found)}; give both files"
        raise InputError(f"{source.where(name)}: expected one file with its {kind}, found {several}")
    return found[0]


def _beginning(name: str) -> str:
    """Return the common beginning of the files of one model: ``elmo_2x4096_512_2048cnn_2xhighway_``."""
    for ending in (OPTIONS_FILE, *(f"{ending}{suffix}" for ending in _WEIGHTS_ENDINGS for suffix in _HDF5_SUFFIXES)):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _config(options: Options) -> BiLMConfig:
    if "char_cnn" not in options.content:
        raise InputError(
            f"{options.where}: 'char_cnn' is missing: models without a character encoder are not supported"
        )
    lstm, cnn = options.part("lstm"), options.part("char_cnn")
    cnn.expect("n_characters", N_BYTE_IDS - 1, N_BYTE_IDS)
    cnn.expect("max_characters_per_token", MAX_CHARACTERS)
    filters = cnn.get("filters", list[tuple[int, int]])
    n_cells, n_projected = lstm.get("dim", int), lstm.get("projection_dim", int)
    has_projection = n_cells != n_projected
    with error_prefix(options.where):
        return BiLMConfig(
            filters=filters,
            character_embedding_size=cnn.part("embedding").get("dim", int),
            activation=cnn.get("activation", str),
            n_highway_layers=cnn.get("n_highway", int, 0),
            projection_size=n_projected,
            cell_size=n_cells,
            n_layers=lstm.get("n_layers", int),
            cell_clip=lstm.clip("cell_clip"),
            projection_clip=lstm.clip("proj_clip") if has_projection else None,  # TensorFlow clips projections only
            use_residual=lstm.get("use_skip_connections", bool, False),
            use_projection=has_projection,
            use_token_projection=sum(count for _, count in filters) != n_projected,
            forget_bias=1.0,
        )


class _Entry(NamedTuple):
    """One array of the file, and the names of the weights that it holds."""

    key: str
    names: tuple[str, ...]
    shape: tuple[int, ...]

    def read(self, array: Array) -> list[Array]:
        """Return the weights of an array."""
        if self.key == "char_embed":
            return [np.concatenate([np.zeros_like(array[:1]), array])]  # id 0, of padding, is not stored
        array = array[0] if array.ndim == 4 else array  # convolutions: (1, width, channels, filters)
        return [part.T for part in np.split(array, len(self.names))]

    def write(self, weights: Sequence[Array]) -> Array:
        """Return the array of weights."""
        if self.key == "char_embed":
            return weights[0][1:]
        return np.concatenate([weight.T for weight in weights]).reshape(self.shape)


def _entries(config: BiLMConfig) -> Iterator[_Entry]:
    """Yield the arrays of a model's file."""
    n_filters, n_projected = sum(count for _, count in config.filters), config.projection_size
    n_channels, n_gates = config.character_embedding_size, 4 * config.cell_size
    encoder = "token_encoder."
    yield _Entry("char_embed", (encoder + "embedding.weight",), (N_BYTE_IDS - 1, n_channels))
    for i, (width, count) in enumerate(config.filters):
        name = f"{encoder}convolutions.{i}"
        yield _Entry(f"CNN/W_cnn_{i}", (f"{name}.weight",), (1, width, n_channels, count))
        yield _Entry(f"CNN/b_cnn_{i}", (f"{name}.bias",), (count,))
    for i in range(config.n_highway_layers):
        for theirs, ours in (("carry", "gate"), ("transform", "transform")):
            name = f"{encoder}highways.{i}.{ours}"
            yield _Entry(f"CNN_high_{i}/W_{theirs}", (f"{name}.weight",), (n_filters, n_filters))
            yield _Entry(f"CNN_high_{i}/b_{theirs}", (f"{name}.bias",), (n_filters,))
    if config.use_token_projection:
        yield _Entry("CNN_proj/W_proj", (encoder + "projection.weight",), (n_filters, n_projected))
        yield _Entry("CNN_proj/b_proj", (encoder + "projection.bias",), (n_projected,))
    for direction, stack in enumerate(("forward_stack", "backward_stack")):
        for i in range(config.n_layers):
            cell, layer = f"RNN_{direction}/RNN/MultiRNNCell/Cell{i}/LSTMCell", f"{stack}.layers.{i}"
            kernels = (f"{layer}.input_weight", f"{layer}.recurrent_weight")
            yield _Entry(f"{cell}/W_0", kernels, (2 * n_projected, n_gates))
            yield _Entry(f"{cell}/B", (f"{layer}.bias",), (n_gates,))
            if config.use_projection:
                yield _Entry(f"{cell}/W_P_0", (f"{layer}.projection_weight",), (config.cell_size, n_projected))


def _read_weights(source: Source, name: str, config: BiLMConfig) -> BiLM:
    """Read the weights; all names, dtypes and shapes are checked before the first array is read."""
    import h5py

    where = source.where(name)
    entries = {entry.key: entry for entry in _entries(config)}
    state: dict[str, torch.Tensor] = {}
    try:
        with h5py.File(source.open(name), "r") as opened, error_prefix(where):
            _check_names(opened, entries.keys())
            datasets = {key: _dataset(opened, entry) for key, entry in entries.items()}
            for key, entry in entries.items():
                parts = entry.read(datasets[key][...].astype(np.float32))
                for target, part in zip(entry.names, parts, strict=True):
                    state[target] = torch.from_numpy(np.ascontiguousarray(part))
    except InputError:
        raise
    except Exception as error:  # h5py raises anything on a damaged file
        raise InputError(f"{where}: not a readable HDF5 file: {error}") from None
    with without_weights():
        bilm = BiLM(config, **ByteIndexer().sizes())
    bilm.load_state_dict(state, assign=True)
    return bilm.eval()


def _check_names(file: Any, keys: Collection[str]) -> None:
    """Refuse links, and datasets other than those of the keys, among the weights of the language model."""
    import h5py

    def problem_of(key: str, link: Any) -> str | None:
        if not key.startswith(_PREFIXES):
            return None
        if not isinstance(link, h5py.HardLink):
            return f"{key!r} is a soft or external link, which is not followed"
        is_unexpected = key not in keys and isinstance(file[key], h5py.Dataset)
        return f"unexpected {key!r} for a model with these options" if is_unexpected else None

    problem = file.visititems_links(problem_of)
    if problem is not None:
        raise InputError(problem)


def _dataset(file: Any, entry: _Entry) -> Any:
    """Return the dataset of an entry, if it has the expected shape and its data is in the file, readable by HDF5."""
    import h5py

    found = file.get(entry.key)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{entry.key!r} is missing; expected an array {entry.shape}")
    if found.shape != entry.shape or found.dtype.kind != "f":
        raise InputError(f"{entry.key!r} is {found.dtype} {found.shape}; expected float32 {entry.shape}")
    properties = found.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if found.external is not None or found.is_virtual or not set(filters) <= set(_FILTERS):
        raise InputError(f"{entry.key!r} is stored outside of the file or with an unsupported filter ({filters})")
    return found


def save(folder: Path, bilm: BiLM, vocabulary: Vocabulary | None) -> None:
    """Write ``options.json`` and ``weights.hdf5`` for AllenNLP, simple_elmo and bilm-tf into a new or empty folder.

    :param vocabulary: written as ``vocab.txt``, as in the NLPL repository.
    """
    options = write_options(bilm.config)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already: choose another folder")
    with folders.writing_folder(folder, manifest=OPTIONS_FILE, overwrite=True) as new:  # it is new or empty
        _write_weights(new / WEIGHTS_FILE, bilm)
        if vocabulary is not None:
            files.write_bytes(new / "vocab.txt", "".join(f"{word}\n" for word in vocabulary.words).encode())
        files.write_bytes(new / OPTIONS_FILE, files.json_bytes(options))


def _write_weights(path: Path, bilm: BiLM) -> None:
    import h5py

    state = {name: tensor.detach().cpu().float().numpy() for name, tensor in bilm.state_dict().items()}
    with files.writing(path) as file, h5py.File(file, "w") as written:
        for entry in _entries(bilm.config):
            written[entry.key] = entry.write([state[name] for name in entry.names])


def write_options(config: BiLMConfig) -> dict[str, Any]:
    """Return the options of a config, if the format has it."""
    _check_exportable(config)
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


def _check_exportable(config: BiLMConfig) -> None:
    """Refuse a config that bilm-tf's format cannot express; the message names the feature."""
    n_filters, n_projected = sum(count for _, count in config.filters), config.projection_size
    for is_unsupported, feature in (
        (config.input == "words", "word-input models"),
        (config.word_embedding_size > 0, "word embeddings next to characters"),
        (config.cell != "lstm", f"{config.cell} cells"),
        (config.forget_bias != 1, f"a forget bias of {config.forget_bias} (it is always 1)"),
        (config.use_projection == (config.cell_size == n_projected), "projected output with cell_size=projection_size"),
        (config.use_token_projection == (n_filters == n_projected), "projected filters as many as projection_size"),
    ):
        if is_unsupported:
            raise InputError(f"cannot export to bilm-tf HDF5: {feature} are not supported")
