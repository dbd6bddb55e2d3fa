"""A path -> the earlier model that is there, whichever of the formats it has."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

from elmolite.checkpoint import Checkpoint
from elmolite.data.indexers import ByteIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.errors import InputError
from elmolite.formats import allennlp, manylangs
from elmolite.formats.hdf5_structures import SIGNATURE
from elmolite.formats.source import HDF5, MANY_LANGS_MARK, OPTIONS_ENDING, Options, Source

_WEIGHTS_ENDINGS = ("weights", "model")


class Pair(NamedTuple):
    """Where the options and the weights of a bilm-tf model are."""

    options: Source
    options_name: str
    weights: Source
    weights_name: str


def read(path: str | Path, weights: str | Path | None = None) -> Checkpoint:
    """Read a model of bilm-tf, AllenNLP, the NLPL repository or ELMoForManyLangs.

    Text for it is cut at white space, since those systems took sentences that were tokenised.

    :param path: a folder or zip archive with its files; or a file with options or with weights, whose other half lies
        beside it or is ``weights``.
    :param weights: the HDF5 file, where ``path`` is the file with the options.
    :raises InputError: there is no such model, or a file of it is missing or misshapen; the message names it.
    """
    path = Path(path)
    if weights is not None:
        pair = Pair(_beside(path), path.name, _beside(Path(weights)), Path(weights).name)
    elif path.is_dir() or zipfile.is_zipfile(path):
        source = Source.of(path)
        if MANY_LANGS_MARK in source.names:
            bilm, indexer = manylangs.read(source)
            return Checkpoint(bilm, SentenceTokenizer.whitespace(), indexer)
        pair = _pair_in(source)
    else:
        pair = _pair_beside(path)
    options = Options(pair.options.read_json(pair.options_name), pair.options.where(pair.options_name))
    config = allennlp.read_options(options)
    where = pair.weights.where(pair.weights_name)
    if pair.weights_name not in pair.weights.names:
        raise InputError(f"{where} is missing")
    bilm = allennlp.read_weights(pair.weights.open(pair.weights_name), where, config)
    return Checkpoint(bilm, SentenceTokenizer.whitespace(), ByteIndexer())


def _pair_in(source: Source) -> Pair:
    """Find the one model of a folder or archive."""
    found = _weights_among(source)
    if len(found) != 1:
        seen = f"several: {', '.join(found)}; name one" if found else "none"
        raise InputError(f"{source.place}: expected a file named *weights.hdf5 or model.hdf5, found {seen}")
    return Pair(source, _options_of(found[0], source), source, found[0])


def _pair_beside(path: Path) -> Pair:
    """Find the other half of a file with weights or options."""
    source = _beside(path)
    if path.name not in source.names:
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        is_hdf5 = file.read(len(SIGNATURE)) == SIGNATURE
    if is_hdf5 or _is_hdf5_name(path.name):
        return Pair(source, _options_of(path.name, source), source, path.name)
    return Pair(source, path.name, source, _weights_of(path.name, source))


def _beside(path: Path) -> Source:
    """List the folder of a file."""
    if not path.parent.is_dir():
        raise InputError(f"{path}: no such file")
    return Source.of(path.parent, named=path.name)


def _weights_among(source: Source) -> list[str]:
    """Return the HDF5 files that are named as weights, of which a folder may have more for other things."""
    found = [name for name in source.names if _is_hdf5_name(name)]
    named = [name for name in found if Path(name).stem.lower().endswith(_WEIGHTS_ENDINGS)]
    return named or (found if len(found) == 1 else [])


def _is_hdf5_name(name: str) -> bool:
    return name.lower().endswith(HDF5)


def _options_of(weights: str, source: Source) -> str:
    """Return the file with options that belongs to one with weights: of the same beginning, or the only one."""
    return _other_half(
        weights, [name for name in source.names if name.lower().endswith(OPTIONS_ENDING)], source, "options"
    )


def _weights_of(options: str, source: Source) -> str:
    return _other_half(options, _weights_among(source), source, "weights")


def _other_half(name: str, candidates: list[str], source: Source, what: str) -> str:
    same = [each for each in candidates if _beginning(each) == _beginning(name)]
    found = same or candidates
    if len(found) != 1:
        seen = f"several: {', '.join(found)}; give both files" if found else "none beside it"
        raise InputError(f"{source.where(name)}: which file has its {what}? Found {seen}")
    return found[0]


def _beginning(name: str) -> str:
    """Return what the options and the weights of one model begin with: ``elmo_2x4096_512_2048cnn_2xhighway_``."""
    for ending in (OPTIONS_ENDING, *(f"{ending}{suffix}" for ending in _WEIGHTS_ENDINGS for suffix in HDF5)):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
