"""Vectors of the sentences of a file, written as they are computed."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from elmolite import files
from elmolite.elmo import ELMo
from elmolite.errors import InputError
from elmolite.layer_choice import LayerChoice
from elmolite.modules import best_device
from elmolite.text import Progress, read_lines
from elmolite.tokenization import SentenceTokenizer

CHUNK_SENTENCES = 2048
"""Sentences in memory at once; within them, batches are of sentences of like length."""


def embed_file(
    model: str | Path,
    text: str,
    output: str | Path,
    *,
    layers: LayerChoice = "all",
    batch_tokens: int = 4096,
    pretokenized: bool = False,
    show_progress: bool = True,
) -> tuple[int, int]:
    """Embed a file of one sentence a line into an ``.npz`` file, whose array ``"i"`` is line i.

    :param text: a file, or ``-`` for standard input; a blank line gives an array without tokens.
    :param output: written whole or not at all.
    :param layers: as in :meth:`ELMo.embed`.
    :param pretokenized: cut lines at white space, whatever the model's own text was.
    :returns: the number of sentences and of tokens.
    :raises InputError: the model, the text or the output cannot be used.
    """
    output = Path(output)
    if output.suffix != ".npz":
        raise InputError(f"{output}: the output is written as .npz, give it a name that ends so")
    path = None if text == "-" else Path(text)
    if path is not None and (path.is_dir() or not path.exists()):
        raise InputError(f"{path}: no such file")
    elmo = ELMo.from_pretrained(model).to(best_device())
    tokenizer = SentenceTokenizer.whitespace() if pretokenized else elmo.tokenizer
    progress = Progress(0 if path is None else path.stat().st_size)
    lines = (tokenizer.tokens(line) for line in read_lines(path, progress))
    n_sentences = n_tokens = 0
    with (
        files.writing(output) as file,
        zipfile.ZipFile(file, "w", allowZip64=True) as archive,
        tqdm(desc="embedding", unit="words", unit_scale=True, disable=None if show_progress else True) as bar,
    ):
        for sentences in _chunks(lines):
            for vectors in elmo.embed(sentences, layers=layers, batch_tokens=batch_tokens):
                with archive.open(f"{n_sentences}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, vectors, allow_pickle=False)
                n_sentences += 1
            n_new = sum(map(len, sentences))
            n_tokens += n_new
            if progress.n_read and progress.n_total:
                bar.total = int(n_tokens * progress.n_total / progress.n_read)  # what the share read tells
            bar.update(n_new)
        if n_sentences == 0:
            raise InputError(f"{path or 'standard input'}: the file is empty")
    return n_sentences, n_tokens


def _chunks(lines: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    while chunk := list(islice(lines, CHUNK_SENTENCES)):
        yield chunk
