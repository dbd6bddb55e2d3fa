"""Folders of ELMoForManyLangs (Che et al. 2018) -> a model that reads words and Unicode characters.

Its LSTM has its gates in the order i, f, j, o and its forget bias in the bias; its highway layers carry where ours
transform, and have both parts in one matrix.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath, PureWindowsPath

import torch
from torch import Tensor

from elmolite.data.indexers import ManyLangsIndexer
from elmolite.errors import InputError, error_prefix
from elmolite.formats.source import MANY_LANGS_MARK, Options, Source
from elmolite.formats.torch_file import TorchFile
from elmolite.nn import MAX_CHARACTERS
from elmolite.nn.bilm import MAX_LAYERS, BiLM, BiLMConfig

_IDEOGRAPHIC_SPACE = "\u3000"


def read(source: Source) -> tuple[BiLM, ManyLangsIndexer]:
    """Read a model; it comes in evaluation mode, on the CPU.

    :raises InputError: a file is missing or misshapen, or the model is of a kind that cannot be read.
    """
    options = _options(source)
    encoder, embedder = options.part("encoder"), options.part("token_embedder")
    for part, name in ((encoder, "elmo"), (embedder, "cnn")):
        kind = str(part.content.get("name", "")).lower()
        if kind != name:
            raise InputError(f"{part.where}: 'name' is {kind!r}; only {name!r} can be read")
    if embedder.whole("char_dim") == 0:
        raise InputError(f"{embedder.where}: 'char_dim' is 0: models that read no characters cannot be read")
    width = embedder.whole("max_characters_per_token", MAX_CHARACTERS)
    if width != MAX_CHARACTERS:
        raise InputError(f"{embedder.where}: 'max_characters_per_token' is {width}; only {MAX_CHARACTERS} can be read")
    with error_prefix(options.where):
        config = BiLMConfig(
            filters=embedder.filters("filters"),
            character_embedding_size=embedder.whole("char_dim"),
            word_embedding_size=embedder.whole("word_dim", 0),
            activation=embedder.choice("activation", ("relu", "tanh")),
            n_highway_layers=embedder.whole("n_highway", at_most=MAX_LAYERS),
            projection_size=encoder.whole("projection_dim"),
            cell_size=encoder.whole("dim"),
            n_layers=encoder.whole("n_layers", at_most=MAX_LAYERS),
            cell_clip=encoder.clip("cell_clip"),
            projection_clip=encoder.clip("proj_clip"),
            forget_bias=0.0,
        )
    words = _ids(source, "word.dic") if config.word_embedding_size else None
    characters = _ids(source, MANY_LANGS_MARK)
    with error_prefix(source.place):
        indexer = ManyLangsIndexer(characters, words)
    with torch.device("meta"):
        bilm = BiLM(config, **indexer.sizes())
    embedder_weights, encoder_weights = (_Weights(source, f"{name}.pkl") for name in ("token_embedder", "encoder"))
    state = _token_encoder(embedder_weights, config, indexer) | _stacks(encoder_weights, config)
    embedder_weights.check_all_read()
    encoder_weights.check_all_read()
    bilm.load_state_dict(state, assign=True)
    return bilm.eval(), indexer


def _options(source: Source) -> Options:
    """Read the options, which ``config.json`` names, often by a path of another machine."""
    path = source.read_json("config.json").get("config_path")
    if not isinstance(path, str):
        raise InputError(f"{source.where('config.json')}: 'config_path' must name the file with the options")
    beside = {PurePath(path).name, PureWindowsPath(path).name} & set(source.names)
    if not beside:
        raise InputError(f"{source.where(PureWindowsPath(path).name)} is missing, which config.json names: {path}")
    name = min(beside)
    return Options(source.read_json(name), source.where(name))


def _ids(source: Source, name: str) -> dict[str, int]:
    """Read ``token<TAB>id`` lines; one without a token is that of the ideographic space, which white space is."""
    ids: dict[str, int] = {}
    for number, line in enumerate(source.read_text(name).split("\n"), start=1):
        *token, last = line.strip().split("\t")
        if not token and not last:
            continue
        if len(token) > 1 or not (last.isascii() and last.isdecimal() and len(last) < 9):
            raise InputError(f"{source.where(name)}, line {number}: expected a token, a tab and its id: {line[:60]!r}")
        ids[token[0] if token else _IDEOGRAPHIC_SPACE] = int(last)
    return ids


class _Weights:
    """The tensors of a file, by name."""

    def __init__(self, source: Source, name: str) -> None:
        self.where = source.where(name)
        content = source.read(name)
        with self._explaining():
            self._file = TorchFile(content)
        self._taken: set[str] = set()

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
            raise InputError(f"{self.where}: not a file of torch's weights that can be read: {error}") from None

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a tensor, which must have a shape."""
        view = self._file.views.get(name)
        if view is None:
            raise InputError(f"{self.where}: {name!r} is missing; expected {shape}")
        if view.shape != shape:
            raise InputError(
                f"{self.where}: {name!r} is {view.storage.dtype} {view.shape}; by the options and lists it should "
                f"be float32 {shape}"
            )
        self._taken.add(name)
        with self._explaining():
            return self._file.read(name).float()

    def check_all_read(self) -> None:
        """Refuse weights that a model with these options does not have."""
        strange = sorted(self._file.views.keys() - self._taken)
        if strange:
            raise InputError(f"{self.where}: holds {strange[0]!r}, which is not of a model with these options")


def _token_encoder(weights: _Weights, config: BiLMConfig, indexer: ManyLangsIndexer) -> dict[str, Tensor]:
    ours = "token_encoder."
    n_filters, n_channels = sum(count for _, count in config.filters), config.character_embedding_size
    state = {ours + "embedding.weight": weights.take("char_emb_layer.embedding.weight", indexer.n_ids, n_channels)}
    if config.word_embedding_size:
        shape = (indexer.n_word_ids, config.word_embedding_size)
        state[ours + "word_embedding.weight"] = weights.take("word_emb_layer.embedding.weight", *shape)
    for i, (width, count) in enumerate(config.filters):
        name = f"convolutions.{i}."
        state[f"{ours}{name}weight"] = weights.take(f"{name}weight", count, n_channels, width)
        state[f"{ours}{name}bias"] = weights.take(f"{name}bias", count)
    for i in range(config.n_highway_layers):
        for kind, columns in (("weight", (n_filters,)), ("bias", ())):
            transform, carry = weights.take(f"highways._layers.{i}.{kind}", 2 * n_filters, *columns).chunk(2)
            state[f"{ours}highways.{i}.transform.{kind}"] = transform.contiguous()
            state[f"{ours}highways.{i}.gate.{kind}"] = -carry
    n_features = n_filters + config.word_embedding_size
    state[ours + "projection.weight"] = weights.take("projection.weight", config.projection_size, n_features)
    state[ours + "projection.bias"] = weights.take("projection.bias", config.projection_size)
    return state


def _stacks(weights: _Weights, config: BiLMConfig) -> dict[str, Tensor]:
    state = {}
    n_gates, n_projected = 4 * config.cell_size, config.projection_size
    for direction in ("forward", "backward"):
        for i in range(config.n_layers):
            theirs, ours = f"{direction}_layer_{i}.", f"{direction}_stack.layers.{i}."
            for name, part, columns in (
                ("input_weight", "input_linearity.weight", [n_projected]),
                ("recurrent_weight", "state_linearity.weight", [n_projected]),
                ("bias", "state_linearity.bias", []),
            ):
                state[ours + name] = _as_ours(weights.take(theirs + part, n_gates, *columns))
            projection = weights.take(theirs + "state_projection.weight", n_projected, config.cell_size)
            state[ours + "projection_weight"] = projection
    return state


def _as_ours(gates: Tensor) -> Tensor:
    """Put the rows of the gates i, f, j, o in the order i, j, f, o."""
    i, f, j, o = gates.chunk(4)
    return torch.cat([i, j, f, o])
