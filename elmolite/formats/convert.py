"""An earlier model -> a model folder of elmolite; and such a folder -> the files that AllenNLP and simple_elmo read."""

from __future__ import annotations

from pathlib import Path

from elmolite.checkpoint import Checkpoint
from elmolite.data.indexers import ByteIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.errors import InputError
from elmolite.formats import allennlp
from elmolite.formats.loading import read
from elmolite.formats.source import is_legacy
from elmolite.released_models import model_folder
from elmolite.utils import files, folders

OPTIONS_FILE, WEIGHTS_FILE = "options.json", "weights.hdf5"


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    weights: str | Path | None = None,
    tokenizer: SentenceTokenizer | None = None,
    overwrite: bool = False,
) -> str:
    """Read an earlier model and write it as a folder of elmolite, or one of elmolite as an HDF5 pair.

    :param source: an earlier model, as :func:`elmolite.formats.loading.read` takes it; or a model folder of elmolite.
    :param destination: a folder, which will hold a model of elmolite, or ``options.json`` and ``weights.hdf5``.
    :param weights: the HDF5 file of ``source``, where that is a file with options.
    :param tokenizer: how strings are cut for the model; ``None`` for white space.
    :param overwrite: replace an earlier model folder.
    :returns: what was written, in words.
    :raises InputError: the source cannot be read, or the format has no way to say what it is.
    """
    if weights is None and not Path(source).is_file():
        source = model_folder(source)
    if weights is not None or is_legacy(Path(source)):
        checkpoint = read(source, weights)
        checkpoint.tokenizer = tokenizer or checkpoint.tokenizer
        checkpoint.save_pretrained(destination, overwrite=overwrite)
        return "a model folder of elmolite"
    if overwrite or tokenizer is not None:
        raise InputError("--overwrite and --tokenizer are for model folders of elmolite; this would be an HDF5 pair")
    write_pair(Checkpoint.from_pretrained(source), destination)
    return f"{OPTIONS_FILE} and {WEIGHTS_FILE}, for AllenNLP, simple_elmo and bilm-tf"


def write_pair(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write the files that AllenNLP, simple_elmo and bilm-tf read, into a folder that is new or empty.

    The vocabulary goes beside them as ``vocab.txt``, where there is one, as in the NLPL repository.

    :raises InputError: the format has no way to say what the model is, or the files cannot be written.
    """
    folder = Path(folder)
    if not isinstance(checkpoint.indexer, ByteIndexer):
        reads = checkpoint.indexer.reads
        raise InputError(f"the HDF5 format of bilm-tf has no way to say this: a model that reads {reads}, not bytes")
    options = allennlp.write_options(checkpoint.bilm.config)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already: choose another folder")
    allennlp.import_h5py()
    with folders.writing_folder(folder, manifest=OPTIONS_FILE, overwrite=True) as new:  # it is new or empty
        with files.writing(new / WEIGHTS_FILE) as file:
            allennlp.write_weights(file, checkpoint.bilm)
        if checkpoint.vocabulary is not None:
            words = "".join(f"{word}\n" for word in checkpoint.vocabulary.words)
            files.write_bytes(new / "vocab.txt", words.encode())
        files.write_bytes(new / OPTIONS_FILE, files.json_bytes(options))
