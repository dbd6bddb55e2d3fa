"""A model folder and a text -> perplexities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from elmolite.checkpoint import Checkpoint
from elmolite.data.prepare import prepare
from elmolite.errors import InputError
from elmolite.pretraining.perplexity import Perplexity, evaluate
from elmolite.utils.torch import best_device


@dataclass(frozen=True)
class Evaluation:
    """Perplexities of a text with the state carried through it, and with each sentence from zero state."""

    running_text: Perplexity
    by_sentence: Perplexity

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Return a table, for a person."""
        lines = ["perplexity            forward  backward   average"]
        for name, part in (("running text", self.running_text), ("sentence by sentence", self.by_sentence)):
            lines.append(f"{name:<20}{part.forward:>9.2f} {part.backward:>9.2f} {part.average:>9.2f}")
        text = self.running_text
        lines.append(f"{text.n_targets:,} targets a direction, {text.unknown_share:.2%} outside the vocabulary")
        return "\n".join(lines)


def evaluate_text(model: str | Path, text: Sequence[str], *, show_progress: bool = True) -> Evaluation:
    """Compute the perplexity of a model folder on raw text, cut as the model's own text was.

    :param text: files, folders, globs or ``-``.
    :raises InputError: the folder has no softmax, or the text cannot be read.
    """
    checkpoint = Checkpoint.from_pretrained(model).to(best_device())
    if checkpoint.softmax is None or checkpoint.vocabulary is None:
        raise InputError(f"{model}: without softmax.safetensors and vocab.txt there is no language model to evaluate")
    with TemporaryDirectory() as folder:
        corpus = prepare(
            text,
            Path(folder) / "corpus",
            hold_out=False,
            tokenizer=checkpoint.tokenizer,
            vocabulary=checkpoint.vocabulary,
            characters=checkpoint.characters,
            show_progress=False,
        )
        n_targets = 2 * (corpus.train.n_tokens + corpus.train.n_sentences)
        with tqdm(total=n_targets, unit="targets", unit_scale=True, disable=None if show_progress else True) as bar:
            running, alone = (
                evaluate(
                    checkpoint.bilm,
                    checkpoint.softmax,
                    corpus,
                    corpus.train,
                    by_sentence=by_sentence,
                    on_batch=bar.update,
                )
                for by_sentence in (False, True)
            )
    return Evaluation(running, alone)
