"""Model folder: save and load a trained model as plain files.

=========================  ==================================================================================
``config.json``            the model's configuration, and the size and checksum of every other file and of itself
``model.safetensors``      the token encoder and both LSTM stacks
``softmax.safetensors``    the output weights (optional: embedding does not need them)
``vocab.txt``              the words of the softmax, or of a word-input model, with their counts
``tokenizer.json``         the tokenizer of its text
``characters.json``        the characters of the token encoder (unless they are bytes)
``lexicon.json``           the characters and words of a model of ELMoForManyLangs
=========================  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from elmolite.data.indexers import ByteIndexer, CharacterIndexer, TokenIndexer, load_indexer
from elmolite.data.tokenization import FILE_NAME as TOKENIZER_FILE, SentenceTokenizer
from elmolite.data.vocab import VOCAB_FILE, Vocabulary
from elmolite.errors import InputError, error_prefix
from elmolite.formats import allennlp, loading
from elmolite.hub import MODEL_MANIFEST, model_folder, upload
from elmolite.nn.bilm import BiLM
from elmolite.nn.config import BiLMConfig
from elmolite.nn.softmax import Softmax, make_softmax
from elmolite.utils import files, folders
from elmolite.utils.config import read_fields
from elmolite.utils.serialization import TensorFile
from elmolite.utils.torch import without_weights

FORMAT_VERSION = 2
WEIGHTS_FILE = "model.safetensors"
SOFTMAX_FILE = "softmax.safetensors"


@dataclass
class Checkpoint:
    """Model and everything needed to use it: tokenizer, indexer and, for the language model, softmax and vocabulary.

    >>> checkpoint = Checkpoint.from_pretrained("mini-en")
    >>> checkpoint
    Checkpoint(2,996,448 parameters, adaptive softmax over 30,000 words, reads bytes)

    :param training: record of the training for the reader, unused by the library.
    :param storage_dtype: dtype of the weights in the folder that was read; modules compute in float32.
    """

    bilm: BiLM
    tokenizer: SentenceTokenizer
    indexer: TokenIndexer
    softmax: Softmax | None = None
    vocabulary: Vocabulary | None = None
    training: Mapping[str, Any] | None = None
    storage_dtype: torch.dtype = torch.float32

    def __repr__(self) -> str:
        words = "" if self.vocabulary is None else f" over {len(self.vocabulary):,} words"
        softmax = "no softmax" if self.softmax is None else f"{self.softmax.kind} softmax{words}"
        return f"Checkpoint({self.bilm.n_parameters:,} parameters, {softmax}, reads {self.indexer.reads})"

    @property
    def characters(self) -> CharacterIndexer:
        """Indexer for the character table of a corpus for this model."""
        return self.indexer.for_corpus()

    def to(self, device: torch.device) -> Checkpoint:
        """Move the modules to a device."""
        self.bilm.to(device)
        if self.softmax is not None:
            self.softmax.to(device)
        return self

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None, overwrite: bool = False) -> None:
        """Write a model folder.

        :param dtype: dtype of the weights on disk; ``None`` for that of the folder the model was read from.
        :param overwrite: replace an earlier model folder, which stays as it was if this fails.
        """
        dtype = dtype or self.storage_dtype
        with folders.writing_folder(Path(folder), manifest=MODEL_MANIFEST, overwrite=overwrite) as new:
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
            files.write_manifest(new / MODEL_MANIFEST, config)

    def save_hdf5(self, folder: str | Path) -> None:
        """Write ``options.json`` and ``weights.hdf5`` for AllenNLP, simple_elmo and bilm-tf into a new folder."""
        if not isinstance(self.indexer, ByteIndexer):
            raise InputError(f"cannot export to bilm-tf HDF5: models that read {self.indexer.reads} are not supported")
        allennlp.save(Path(folder), self.bilm, self.vocabulary)

    def push_to_hub(self, name: str, *, is_private: bool = False, message: str | None = None) -> str:
        """Upload the model and its :meth:`card` to the Hugging Face Hub as its logged-in owner (``hf auth login``).

        :param name: ``owner/model``; the repository is created if needed.
        :param message: of the commit.
        :returns: the URL.
        """
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            self.save_pretrained(folder)
            files.write_bytes(folder / "README.md", self.card(name).encode())
            return upload(folder, name, is_private=is_private, message=message or "A model of elmolite")

    def card(self, name: str) -> str:
        """Return a model card for the Hugging Face Hub, from the sizes and the record of the training.

        :param name: ``owner/model``.
        """
        config, training = self.bilm.config, self.training or {}
        rows = [
            ("layers", f"{config.n_layers} {config.cell.upper()} layers of {config.cell_size} cells in each direction"),
            ("reads", self.indexer.reads),
            ("vectors", f"{config.n_layers + 1} layers of {2 * config.projection_size}"),
            ("parameters", f"{self.bilm.n_parameters:,}, without the softmax"),
        ]
        if self.softmax is not None and self.vocabulary is not None:
            rows.append(("softmax", f"{self.softmax.kind}, over {len(self.vocabulary):,} words"))
        if n_tokens := training.get("corpus", {}).get("tokens"):
            rows.append(("training text", f"{n_tokens:,} tokens"))
        for direction, perplexity in training.get("held_out_perplexity", {}).items():
            rows.append((f"validation perplexity, {direction}", f"{perplexity:.1f}, after {training['step']:,} steps"))
        lines = [
            *("---", "library_name: elmolite", "pipeline_tag: feature-extraction"),
            *("tags: [elmo, bilm, contextual-embeddings]", "---", "", f"# {name}", ""),
            "An ELMo model: contextual word vectors from a character-level bidirectional language model",
            "([Peters et al. 2018](https://aclanthology.org/N18-1202/)), made with elmolite (`pip install elmolite`).",
            *("", "```python", "from elmolite import ELMo", "", f'elmo = ELMo.from_pretrained("{name}")'),
            *('vectors = elmo.embed(["One sentence."])', "```", "", "| | |", "|---|---|"),
        ]
        return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows), ""])

    @classmethod
    def from_pretrained(
        cls, source: str | Path, weights: str | Path | None = None, *, with_softmax: bool = True
    ) -> Checkpoint:
        """Load a model; its modules are in evaluation mode, in float32, on the CPU.

        :param source: a model folder, the name of a released model or of one on the Hugging Face Hub; or a model of an
            earlier system, see :func:`elmolite.formats.loading.load`.
        :param weights: the HDF5 file of an earlier model, if ``source`` is the file with its options.
        :param with_softmax: false to embed only: the file of the softmax is not read and may be missing.
        """
        path, is_earlier = _resolve(source, weights)
        if is_earlier:
            return cls(*loading.load(path, weights))
        return _load(path, with_softmax=with_softmax)


def _resolve(source: str | Path, weights: str | Path | None) -> tuple[Path, bool]:
    """Return the path of a model, and whether it is of an earlier system."""
    if weights is not None or Path(source).is_file():
        return Path(source), True
    folder = model_folder(source)
    return folder, loading.is_earlier_model(folder)


def _load(folder: Path, *, with_softmax: bool) -> Checkpoint:
    """Load a model folder; every file is verified and read once."""
    path = folder / MODEL_MANIFEST
    config = folders.open_folder(folder, MODEL_MANIFEST, kind="model", version=FORMAT_VERSION, skip=(SOFTMAX_FILE,))
    entries = config["files"]
    model_config = _model_config(config, path)
    vocabulary = Vocabulary.load(folder / VOCAB_FILE) if VOCAB_FILE in entries else None
    kind = "words" if model_config.input == "words" else config.get("indexer")
    indexer = load_indexer(folder, kind=kind, names=entries, vocabulary=vocabulary)
    weights = TensorFile(folder / WEIGHTS_FILE)
    with error_prefix(str(path)), without_weights():
        bilm = BiLM(model_config, **indexer.sizes())
    fill(bilm, weights)
    softmax = None
    if with_softmax and SOFTMAX_FILE in entries and vocabulary is not None:
        with error_prefix(str(path)), without_weights():
            softmax = make_softmax(
                config.get("softmax", {"kind": "full"}),
                vocabulary_size=len(vocabulary),
                projection_size=model_config.projection_size,
            )
        if not (folder / SOFTMAX_FILE).exists():
            problem = "is missing: perplexity and continued training need it (embedding does not)"
            raise InputError(f"{folder / SOFTMAX_FILE} {problem}")
        files.check_file(folder / SOFTMAX_FILE, entries[SOFTMAX_FILE])
        fill(softmax, TensorFile(folder / SOFTMAX_FILE))
    tokenizer = SentenceTokenizer.load(folder / TOKENIZER_FILE)
    return Checkpoint(bilm, tokenizer, indexer, softmax, vocabulary, config.get("training"), weights.dtype)


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    weights: str | Path | None = None,
    tokenizer: SentenceTokenizer | None = None,
    overwrite: bool = False,
) -> str:
    """Convert an earlier model to a model folder, or a model folder to HDF5; return a description of the result.

    >>> convert("mini-en", "for-allennlp")
    'options.json and weights.hdf5, for AllenNLP, simple_elmo and bilm-tf'
    >>> convert("for-allennlp", "converted")
    'a model folder of elmolite'

    :param source: an earlier model, as :meth:`Checkpoint.from_pretrained` takes it; or a model folder.
    :param destination: the folder to write: a model folder, or ``options.json`` and ``weights.hdf5``.
    :param weights: the HDF5 file of ``source``, if that is a file with options.
    :param tokenizer: tokenizer of the new model folder; ``None`` for white space.
    :param overwrite: replace an earlier model folder.
    """
    path, is_earlier = _resolve(source, weights)
    if is_earlier:
        checkpoint = Checkpoint(*loading.load(path, weights))
        checkpoint.tokenizer = tokenizer or checkpoint.tokenizer
        checkpoint.save_pretrained(destination, overwrite=overwrite)
        return "a model folder of elmolite"
    if overwrite or tokenizer is not None:
        raise InputError("`overwrite` and `tokenizer` are for conversion to a model folder, not to HDF5")
    _load(path, with_softmax=False).save_hdf5(destination)
    return f"{allennlp.OPTIONS_FILE} and {allennlp.WEIGHTS_FILE}, for AllenNLP, simple_elmo and bilm-tf"


def _tensors(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in module.state_dict().items()}


def read_config(folder: str | Path) -> BiLMConfig:
    """Return the config of the model in a folder, without reading its weights."""
    path, is_earlier = _resolve(folder, None)
    if is_earlier:
        loading.refuse_earlier_model(path)
    path = path / MODEL_MANIFEST
    return _model_config(files.read_manifest(path, kind="model", version=FORMAT_VERSION), path)


def _model_config(config: Mapping[str, Any], path: Path) -> BiLMConfig:
    return read_fields(BiLMConfig, config.get("model"), where=f"{path}, 'model'")


def fill(module: nn.Module, weights: TensorFile) -> None:
    """Load the weights of a module, which may be on the device "meta", from a file with exactly its tensors."""
    expected = module.state_dict()
    weights.check_shapes({name: tuple(tensor.shape) for name, tensor in expected.items()})
    found = weights.read()
    module.load_state_dict({name: found[name].to(like.dtype) for name, like in expected.items()}, assign=True)
    module.requires_grad_(True).eval()
