"""A trained task as a folder: all that prediction needs.

=======================  =====================================================================================
``task.json``            what the model consists of, its labels, where its language model is, and the size and
                         checksum of every other file and of itself
``model.safetensors``    the mixes, the head, static vectors
``static_words.txt``     the words of the static vectors, one a line (where there are any)
``tokenizer.json``       how sentences are cut into tokens
``encoder/``             the language model, a model folder; or it lies elsewhere, known by its content
=======================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import save
from torch import Tensor, nn

from elmolite.checkpoint import CONFIG_FILE as ENCODER_MANIFEST
from elmolite.checkpoint import fill
from elmolite.data.tokenization import FILE_NAME as TOKENIZER_FILE
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.elmo_module import Sentence
from elmolite.errors import InputError, error_prefix
from elmolite.hub import model_folder, released_models
from elmolite.nn.bilm import MAX_SIZE
from elmolite.tasks.config import InputConfig
from elmolite.tasks.data import TaskData, predict
from elmolite.tasks.examples.records import DEFAULT_COLUMNS, Example, ExampleColumns
from elmolite.tasks.heads import HeadFactory
from elmolite.tasks.model import TaskModel, build
from elmolite.tasks.objectives import Prediction, uses_crf
from elmolite.tasks.spans import Scheme
from elmolite.tasks.specs import TASKS, TaskDescription
from elmolite.tasks.static_vectors import StaticEmbedding
from elmolite.utils import files, folders
from elmolite.utils.config import read_fields
from elmolite.utils.files import ensure_inside
from elmolite.utils.serialization import TensorFile

FORMAT_VERSION = 2
MANIFEST = "task.json"
WEIGHTS_FILE = "model.safetensors"
WORDS_FILE = "static_words.txt"
ENCODER_FOLDER = "encoder"


@dataclass
class TaskCheckpoint:
    """What a task folder holds."""

    description: TaskDescription
    model: TaskModel
    tokenizer: SentenceTokenizer
    columns: ExampleColumns = DEFAULT_COLUMNS
    """How the examples were laid out that it learnt from."""

    def predict(self, sentences: Sequence[Sentence] | Sequence[tuple[Sentence, Sentence]]) -> list[Prediction]:
        """Predict the labels of sentences, or of pairs of them, with their probabilities.

        :param sentences: strings, which are cut into tokens, or lists of tokens; for entailment pairs of such.
        :raises InputError: a sentence has no words, or something else is given.
        """
        if isinstance(sentences, str):
            raise InputError("one string was given where a list of sentences was expected; for one sentence: [text]")
        examples, is_pair = [], self.description.spec.is_pair
        for number, each in enumerate(sentences):
            pair: Any = each if is_pair else (each,)
            if isinstance(pair, str) or len(pair) != len(self.description.spec.sentences):
                raise InputError(f"sentence {number}: expected a pair of sentences, premise and hypothesis")
            parts = tuple(part if isinstance(part, str) else tuple(part) for part in pair)
            examples.append(Example(parts, (), f"sentence {number}"))
        return predict(self.model, TaskData(examples, self.model, self.tokenizer)) if examples else []

    def save_pretrained(
        self, folder: str | Path, *, encoder: str | Path | None = None, overwrite: bool = False
    ) -> None:
        """Write the folder.

        :param encoder: the language model's folder, or the name of a released model, to refer to instead of copying
            the language model; unless it is a released one, :meth:`from_pretrained` then has to be told where it is.
        :param overwrite: replace an earlier task folder.
        :raises InputError: it exists, or cannot be written; an earlier one stands then as it was.
        """
        with folders.writing_folder(
            Path(folder), manifest=MANIFEST, overwrite=overwrite, folders=(ENCODER_FOLDER,)
        ) as new:
            files.write_bytes(new / WEIGHTS_FILE, save(_own_weights(self.model)))
            files.write_bytes(new / TOKENIZER_FILE, self.tokenizer.to_bytes())
            static = self.model.inputs.static
            if static is not None:
                files.write_bytes(new / WORDS_FILE, "".join(f"{word}\n" for word in static.ids.words).encode())
            fingerprints = folders.file_entries(new)
            content = {
                "format_version": FORMAT_VERSION,
                **_as_dict(self.description),
                "columns": self.columns.given | _given({"label_separator": self.columns.label_separator}),
                "static": None if static is None else {"size": static.size, "is_trained": static.weight.requires_grad},
                "encoder": self._save_encoder(new, encoder),
                "files": fingerprints,
            }
            files.write_manifest(new / MANIFEST, content)

    def _save_encoder(self, new: Path, encoder: str | Path | None) -> dict[str, Any] | None:
        """Copy the language model, or note where it is."""
        if self.model.elmo is None:
            return None
        if encoder is None:
            self.model.elmo.save_pretrained(new / ENCODER_FOLDER)
            place, found = ENCODER_FOLDER, new / ENCODER_FOLDER
        else:
            found = model_folder(encoder)
            place = str(found.resolve()) if Path(encoder).is_dir() else str(encoder)
        return {"folder": place, ENCODER_MANIFEST: files.file_entry(found / ENCODER_MANIFEST)}

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, head: HeadFactory | None = None, encoder: str | Path | None = None
    ) -> TaskCheckpoint:
        """Read a task; the model comes in evaluation mode, on the CPU.

        :param folder: a task folder, or the folder of the run that made it.
        :param head: makes the head, where it was one of your own.
        :param encoder: the language model, where the folder refers to one that neither lies in it nor comes with the
            package: what a folder names is not opened elsewhere, or downloaded, without being asked for.
        :raises InputError: a file is missing, cut short, damaged or of another shape, or the language model is not
            there, or another than the task was trained with; the message names it.
        """
        folder, of_the_run = folders.resolve_committed(Path(folder)), folders.resolve_committed(Path(folder) / "model")
        if not (folder / MANIFEST).exists() and (of_the_run / MANIFEST).exists():
            folder = of_the_run
        content = folders.open_folder(folder, MANIFEST, kind="task", version=FORMAT_VERSION)
        description = _description(content, folder / MANIFEST)
        if (description.head is None) != (head is not None):
            wanted = "this task has a head of your own: say what makes it, from_pretrained(head=...) or --custom-head"
            raise InputError(f"{folder}: {wanted if head is None else 'this task has a head of its own, give none'}")
        for name in ("columns", "static", "encoder"):
            if name not in content:
                raise InputError(f"{folder / MANIFEST}: {name!r} is missing")
        if missing := {WEIGHTS_FILE, TOKENIZER_FILE} - content["files"].keys():
            raise InputError(f"{folder / MANIFEST}: 'files' must name {min(missing)}")
        columns = read_fields(ExampleColumns, content["columns"], where=f"{folder / MANIFEST}, 'columns'")
        with error_prefix(str(folder / MANIFEST)):
            columns.check(description.task)
        weights = TensorFile(folder / WEIGHTS_FILE)
        static = _Static.read(content, folder)
        elmo = _encoder(content["encoder"], folder, encoder)
        with error_prefix(str(folder / MANIFEST)):
            model = _made(description, elmo, static, weights, head)
        fill(_Own(model), weights)
        if static is not None and model.inputs.static is not None:
            model.inputs.static.weight.requires_grad_(static.is_trained)
        return cls(description, model.eval(), SentenceTokenizer.load(folder / TOKENIZER_FILE), columns)


@dataclass(frozen=True)
class _Static:
    """What a folder says of its static vectors."""

    words: tuple[str, ...]
    size: int
    is_trained: bool

    @classmethod
    def read(cls, content: dict[str, Any], folder: Path) -> _Static | None:
        """Read the words.

        :raises InputError: the manifest says something else, or they cannot be read.
        """
        match content["static"]:
            case None:
                return None
            case {"size": int(size), "is_trained": bool(is_trained), **more} if 0 < size <= MAX_SIZE and not more:
                pass
            case _:
                raise InputError(f"{folder / MANIFEST}: 'static' must have 'size', a number, and 'is_trained'")
        if WORDS_FILE not in content["files"]:
            raise InputError(f"{folder / MANIFEST}: 'files' must name {WORDS_FILE}")
        try:
            words = (folder / WORDS_FILE).read_bytes().decode().split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{folder / WORDS_FILE}: cannot be read: {error}") from None
        return cls(tuple(words), size, is_trained)


def _made(
    description: TaskDescription,
    elmo: ELMo | None,
    static: _Static | None,
    weights: TensorFile,
    head: HeadFactory | None,
) -> TaskModel:
    """Make the model of a folder; what its weights will replace has no memory until they do.

    :raises InputError: the settings do not go together, or ask for more than the weights have.
    """
    n_labels = len(description.labels)
    if static is not None:
        weights.check_holds(len(static.words) * static.size)
    if uses_crf(description):
        weights.check_holds(n_labels**2)
    with nullcontext() if head is not None else torch.device("meta"):
        vectors = None if static is None else StaticEmbedding(static.words, size=static.size)
        try:
            return build(description, elmo, vectors, make_head=head)
        except RuntimeError as error:
            raise InputError(f"sizes that no model has: {error}") from None


class _Own(nn.Module):
    """What of a model is no part of the language model."""

    def __init__(self, model: TaskModel) -> None:
        super().__init__()
        self.inputs = model.inputs
        self.head = model.head
        self.objective = model.objective


def _own_weights(model: TaskModel) -> dict[str, Tensor]:
    return {name: each.detach().cpu().contiguous() for name, each in _Own(model).state_dict().items()}


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _as_dict(description: TaskDescription) -> dict[str, Any]:
    return {**asdict(description), "labels": list(description.labels)}


def _description(content: dict[str, Any], path: Path) -> TaskDescription:
    """Read what :func:`_as_dict` gave."""
    task: Any = content.get("task")
    if task not in TASKS:
        raise InputError(f"{path}: 'task' must be one of {', '.join(TASKS)}")
    labels = _labels(content.get("labels"), path)
    scheme, is_multi_label = content.get("scheme"), content.get("is_multi_label", False)
    if scheme not in (None, *get_args(Scheme)) or not isinstance(is_multi_label, bool):
        raise InputError(
            f"{path}: 'scheme' must be null or {', '.join(get_args(Scheme))}, 'is_multi_label' true or not"
        )
    head = content.get("head")
    return TaskDescription(
        task=task,
        labels=labels,
        inputs=read_fields(InputConfig, content.get("inputs"), where=f"{path}, 'inputs'"),
        head=None if head is None else read_fields(TASKS[task].config, head, where=f"{path}, 'head'"),
        is_multi_label=is_multi_label,
        scheme=scheme,
    )


def _labels(found: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(found, list) or not found or not all(map(_is_text, found)):
        raise InputError(f"{path}: 'labels' must be a list of names")
    if len(set(found)) != len(found):
        raise InputError(f"{path}: a name stands twice among the 'labels'")
    return tuple(found)


def _is_text(label: Any) -> bool:
    """Tell whether a label is text that can be written: JSON may have halves of characters."""
    return isinstance(label, str) and not any("\ud800" <= character <= "\udfff" for character in label)


def _encoder(reference: Any, folder: Path, given: str | Path | None) -> ELMo | None:
    """Read the language model that a task was trained with, and no other.

    :param reference: what the folder says of it.
    :param given: where the user says that it is.
    """
    match reference:
        case None:
            return None
        case {"folder": str(place), **mark} if mark.keys() == {ENCODER_MANIFEST}:
            pass
        case _:
            raise InputError(f"{folder / MANIFEST}: 'encoder' must have 'folder' and {ENCODER_MANIFEST!r}, or be null")
    if given is not None:
        found = model_folder(given)
    elif place == ENCODER_FOLDER:
        found = folder / ENCODER_FOLDER
        ensure_inside(found)
    elif place in released_models():
        found = model_folder(place)
    else:
        raise InputError(
            f"{folder}: its language model is not in it, but was {place!r}: say where it is, "
            "from_pretrained(encoder=...) or --encoder"
        )
    if not (found / ENCODER_MANIFEST).is_file():
        raise InputError(f"{found / ENCODER_MANIFEST} is missing: the language model of {folder} is no longer there")
    if files.file_entry(found / ENCODER_MANIFEST) != mark[ENCODER_MANIFEST]:
        raise InputError(
            f"{found / ENCODER_MANIFEST}: is another language model than the one that {folder} was trained with, or "
            "damaged"
        )
    return ELMo.from_pretrained(found)
