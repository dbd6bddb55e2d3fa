"""ELMoForManyLangs (Che et al. 2018): folders with a model that reads words and Unicode characters.

Its LSTM gates are in the order i, f, j, o with the forget bias inside the bias; its highway layers swap transform and
carry, and store both in one matrix.
"""

from __future__ import annotations

from pathlib import PurePath, PureWindowsPath

import torch
from torch import Tensor

from elmolite.data.indexers import ManyLangsIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.errors import InputError, error_prefix
from elmolite.formats.source import EarlierModel, Options, Source
from elmolite.nn import MAX_CHARACTERS
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import BiLMConfig
from elmolite.utils.torch import without_weights

CHARACTERS_FILE = "char.dic"
_IDEOGRAPHIC_SPACE = "\u3000"


def matches(source: Source) -> bool:
    """Return whether a folder has the file of characters."""
    return not source.named and CHARACTERS_FILE in source.names


def load(source: Source) -> EarlierModel:
    """Read a model."""
    options = _options(source)
    config = _config(options)
    words = _ids(source, "word.dic") if config.word_embedding_size else None
    characters = _ids(source, CHARACTERS_FILE)
    with error_prefix(str(source.place)):
        indexer = ManyLangsIndexer(characters, words)
    embedder, encoder = (_Weights(source, f"{name}.pkl") for name in ("token_embedder", "encoder"))
    state = _token_encoder(embedder, config, indexer) | _stacks(encoder, config)
    for weights in (embedder, encoder):
        weights.check_all_taken()
    with without_weights():
        bilm = BiLM(config, **indexer.sizes())
    bilm.load_state_dict(state, assign=True)
    return EarlierModel(bilm.eval(), SentenceTokenizer.whitespace(), indexer)


def _config(options: Options) -> BiLMConfig:
    encoder, embedder = options.part("encoder"), options.part("token_embedder")
    for part, name in ((encoder, "elmo"), (embedder, "cnn")):
        if part.get("name", str).lower() != name:
            raise part.wrong("name", name)
    embedder.expect("max_characters_per_token", MAX_CHARACTERS)
    with error_prefix(options.where):
        return BiLMConfig(
            filters=embedder.get("filters", list[tuple[int, int]]),
            character_embedding_size=embedder.get("char_dim", int),
            word_embedding_size=embedder.get("word_dim", int, 0),
            activation=embedder.get("activation", str),
            n_highway_layers=embedder.get("n_highway", int),
            projection_size=encoder.get("projection_dim", int),
            cell_size=encoder.get("dim", int),
            n_layers=encoder.get("n_layers", int),
            cell_clip=encoder.clip("cell_clip"),
            projection_clip=encoder.clip("proj_clip"),
            forget_bias=0.0,
        )


def _options(source: Source) -> Options:
    """Read the options file; ``config.json`` names it, often with a path of another machine."""
    path = source.read_options("config.json").get("config_path", str)
    found = {PurePath(path).name, PureWindowsPath(path).name} & set(source.names)
    if not found:
        raise InputError(f"{source.where(PureWindowsPath(path).name)} is missing; config.json names it: {path}")
    return source.read_options(min(found))


def _ids(source: Source, name: str) -> dict[str, int]:
    """Read ``token<TAB>id`` lines; a line without a token is the ideographic space, lost when lines are stripped."""
    try:
        lines = source.read(name).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{source.where(name)}: not UTF-8: {error}") from None
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        *token, last = line.strip().split("\t")
        if not token and not last:
            continue
        if len(token) > 1 or not (last.isascii() and last.isdecimal() and len(last) < 9):
            raise InputError(f"{source.where(name)}, line {number}: expected a token, a tab and its id: {line[:60]!r}")
        ids[token[0] if token else _IDEOGRAPHIC_SPACE] = int(last)
    return ids


class _Weights:
    """Tensors of a file of ``torch.save``, by name."""

    def __init__(self, source: Source, name: str) -> None:
        self.where = source.where(name)
        try:
            self._tensors = torch.load(source.open(name), weights_only=True, map_location="cpu")
        except InputError:
            raise
        except Exception as error:  # torch.load raises anything on a damaged file
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"{self.where}: not a readable file of torch weights: {reason}") from None
        if not isinstance(self._tensors, dict) or not all(isinstance(each, Tensor) for each in self._tensors.values()):
            raise InputError(f"{self.where}: not a readable file of torch weights: expected tensors by name")

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a tensor, which must have a shape."""
        tensor: Tensor | None = self._tensors.pop(name, None)
        if tensor is None:
            raise InputError(f"{self.where}: {name!r} is missing; expected {shape}")
        if tensor.shape != shape or not tensor.is_floating_point() or tensor.layout != torch.strided:
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise InputError(f"{self.where}: {name!r} is {found}; expected float32 {shape} by the options and lists")
        return tensor.float().contiguous()

    def check_all_taken(self) -> None:
        """Refuse weights that a model with these options does not have."""
        if self._tensors:
            raise InputError(f"{self.where}: unexpected {min(self._tensors, key=str)!r} for a model with these options")


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
    """Reorder the rows of the gates from i, f, j, o to i, j, f, o."""
    i, f, j, o = gates.chunk(4)
    return torch.cat([i, j, f, o])
