"""A trained model as a folder of plain files, written whole and read back the same.

=========================  ==================================================================================
``config.json``            the model's configuration, and the size and checksum of every other file and of itself
``model.safetensors``      the token encoder and both LSTM stacks
``softmax.safetensors``    the output weights (optional: embedding does without)
``vocab.txt``              the words of the softmax, and of a model that reads words, with their counts
``tokenizer.json``         how text was cut into tokens
``characters.json``        the characters of the token encoder (where they are not bytes)
``lexicon.json``           its characters and words (of a model of ELMoForManyLangs)
=========================  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from elmolite.data.indexers import CharacterIndexer, TokenIndexer, load_indexer
from elmolite.data.tokenization import FILE_NAME as TOKENIZER_FILE
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import VOCAB_FILE, Vocabulary
from elmolite.errors import InputError, error_prefix
from elmolite.formats.source import is_legacy, refuse_legacy
from elmolite.nn.bilm import BiLM, BiLMConfig
from elmolite.nn.softmax import Softmax, make_softmax
from elmolite.released_models import model_folder
from elmolite.utils import files, folders
from elmolite.utils.config import read_fields
from elmolite.utils.serialization import TensorFile

FORMAT_VERSION = 2
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
SOFTMAX_FILE = "softmax.safetensors"


@dataclass
class Checkpoint:
    """What a model folder holds; ``training`` is a record for the reader, nothing depends on it."""

    bilm: BiLM
    tokenizer: SentenceTokenizer
    indexer: TokenIndexer
    softmax: Softmax | None = None
    vocabulary: Vocabulary | None = None
    training: Mapping[str, Any] | None = None

    @property
    def characters(self) -> CharacterIndexer:
        """The indexer for the character table of a corpus for this model."""
        return self.indexer.for_corpus()

    def to(self, device: torch.device) -> Checkpoint:
        """Move the modules to a device."""
        self.bilm.to(device)
        if self.softmax is not None:
            self.softmax.to(device)
        return self

    def save_pretrained(
        self, folder: str | Path, *, dtype: torch.dtype = torch.float32, overwrite: bool = False
    ) -> None:
        """Write the folder.

        :param dtype: of the weights on disk; they are float32 again when they are read.
        :param overwrite: replace an earlier model folder.
        :raises InputError: it exists, or cannot be written; an earlier one stands then as it was.
        """
        with folders.writing_folder(Path(folder), manifest=CONFIG_FILE, overwrite=overwrite) as new:
            files.write_bytes(new / WEIGHTS_FILE, save(_tensors(self.bilm, dtype)))
            files.write_bytes(new / TOKENIZER_FILE, self.tokenizer.to_bytes())
            if self.vocabulary is not None:
                files.write_bytes(new / VOCAB_FILE, self.vocabulary.to_bytes())
            self.indexer.save(new)
            if self.softmax is not None:
                files.write_bytes(new / SOFTMAX_FILE, save(_tensors(self.softmax, dtype)))
            config = {
                "format_version": FORMAT_VERSION,
                "model": asdict(self.bilm.config),
                "indexer": self.indexer.kind,
                "softmax": None if self.softmax is None else self.softmax.config(),
                "training": dict(self.training or {}),
                "files": folders.file_entries(new),
            }
            files.write_manifest(new / CONFIG_FILE, config)

    @classmethod
    def from_pretrained(cls, source: str | Path, weights: str | Path | None = None) -> Checkpoint:
        """Read a model; the modules come in evaluation mode, in float32, on the CPU.

        :param source: a model folder, or the name of a model that comes with the package or is on the Hugging Face Hub;
            or a model of an earlier system, see :func:`elmolite.formats.loading.read`.
        :param weights: the HDF5 file of an earlier model, where ``source`` is the file with its options.
        :raises InputError: a file is missing, cut short, damaged or of another shape; the message names it.
        """
        if weights is not None or Path(source).is_file():
            return _read_legacy(source, weights)
        folder = model_folder(source)
        if is_legacy(folder):
            return _read_legacy(folder)
        config = folders.open_folder(folder, CONFIG_FILE, kind="model", version=FORMAT_VERSION)
        manifest = config["files"]
        if not {WEIGHTS_FILE, TOKENIZER_FILE} <= manifest.keys():
            raise InputError(f"{folder / CONFIG_FILE}: 'files' must name {WEIGHTS_FILE} and {TOKENIZER_FILE}")
        model_config = _model_config(config.get("model"), folder / CONFIG_FILE)
        vocabulary = Vocabulary.load(folder / VOCAB_FILE) if VOCAB_FILE in manifest else None
        kind = "words" if model_config.input == "words" else config.get("indexer")
        indexer = load_indexer(folder, kind=kind, names=manifest, vocabulary=vocabulary)
        tensors = TensorFile(folder / WEIGHTS_FILE)
        tensors.check_holds(model_config.min_parameters)
        with error_prefix(f"{folder / CONFIG_FILE}"), torch.device("meta"):
            bilm = BiLM(model_config, **indexer.sizes())
        fill(bilm, tensors)
        tokenizer = SentenceTokenizer.load(folder / TOKENIZER_FILE)
        softmax = None
        if SOFTMAX_FILE in manifest and vocabulary is not None:
            softmax = _empty_softmax(config, folder / CONFIG_FILE, len(vocabulary), model_config.projection_size)
            fill(softmax, TensorFile(folder / SOFTMAX_FILE))
        training = config.get("training")
        if not isinstance(training, dict | None):
            raise InputError(f"{folder / CONFIG_FILE}: 'training' must be an object")
        return cls(bilm, tokenizer, indexer, softmax, vocabulary, training)


def _read_legacy(source: str | Path, weights: str | Path | None = None) -> Checkpoint:
    from elmolite.formats.loading import read

    return read(source, weights)


def _tensors(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in module.state_dict().items()}


def read_config(folder: str | Path) -> BiLMConfig:
    """Return the sizes of the model in a folder.

    :raises InputError: the folder is not a whole model.
    """
    refuse_legacy(folder)
    folder = model_folder(folder)
    config = folders.open_folder(folder, CONFIG_FILE, kind="model", version=FORMAT_VERSION)
    return _model_config(config.get("model"), folder / CONFIG_FILE)


def _model_config(fields: Any, path: Path) -> BiLMConfig:
    return read_fields(BiLMConfig, fields, where=f"{path}, 'model'")


def _empty_softmax(config: Mapping[str, Any], path: Path, vocabulary_size: int, projection_size: int) -> Softmax:
    description = config.get("softmax", {"kind": "full"})
    with error_prefix(str(path)), torch.device("meta"):
        return make_softmax(description, vocabulary_size=vocabulary_size, projection_size=projection_size)


def fill(module: nn.Module, weights: TensorFile) -> None:
    """Give a module its weights from a file, which must have its tensors and no others.

    :param module: whose weights may be shapes as yet, on the device "meta".
    :raises InputError: the file has others; the message names the tensor.
    """
    expected = module.state_dict()
    weights.check_shapes({name: tuple(tensor.shape) for name, tensor in expected.items()})
    found = weights.read()
    module.load_state_dict({name: found[name].to(like.dtype) for name, like in expected.items()}, assign=True)
    module.requires_grad_(True).eval()
