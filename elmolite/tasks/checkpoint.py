"""Task checkpoint: a folder with everything that prediction needs.

=======================  =====================================================================================
``task.json``            configuration of the model, its labels, the reference to its language model, and the size
                         and checksum of every other file and of itself
``model.safetensors``    mixes, head, static vectors
``static_words.txt``     words of the static vectors, one per line (if there are any)
``tokenizer.json``       tokenizer of sentences that are strings
``encoder/``             the language model, a model folder; or it is elsewhere and identified by its checksum
=======================  =====================================================================================
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from elmolite.checkpoint import fill
from elmolite.data.tokenization import FILE_NAME as TOKENIZER_FILE, SentenceTokenizer
from elmolite.embedding.elmo import ELMo, Sentence
from elmolite.errors import InputError, error_prefix, nearest
from elmolite.hub import (
    MODEL_MANIFEST as ENCODER_MANIFEST,
    TASK_MANIFEST as MANIFEST,
    model_folder,
    released_models,
    task_folder,
)
from elmolite.tasks.config import DEFAULT_COLUMNS, HEAD_CONFIGS, ExampleColumns, InputConfig
from elmolite.tasks.data import TaskData, predict
from elmolite.tasks.examples.records import Example
from elmolite.tasks.heads import HeadFactory
from elmolite.tasks.model import TaskModel
from elmolite.tasks.objectives import Prediction
from elmolite.tasks.specs import TASKS, TaskDescription
from elmolite.tasks.static_vectors import StaticEmbedding
from elmolite.utils import files, folders
from elmolite.utils.config import read_fields
from elmolite.utils.console import n_of
from elmolite.utils.serialization import TensorFile
from elmolite.utils.torch import without_weights

FORMAT_VERSION = 2
WEIGHTS_FILE = "model.safetensors"
WORDS_FILE = "static_words.txt"
ENCODER_FOLDER = "encoder"


@dataclass
class TaskCheckpoint:
    """A trained task.

    >>> tagger = TaskCheckpoint.from_pretrained("mini-en-upos")
    >>> tagger.predict(["The children play."])[0].labels
    ('DET', 'NOUN', 'VERB', 'PUNCT')
    """

    description: TaskDescription
    model: TaskModel
    tokenizer: SentenceTokenizer
    columns: ExampleColumns = DEFAULT_COLUMNS
    """Columns of the training examples."""

    def __repr__(self) -> str:
        labels = self.description.labels
        shown = ", ".join(labels[:8]) + ", ..." * (len(labels) > 8)
        return f"TaskCheckpoint({self.description.task}, {n_of(len(labels), 'label')}: {shown})"

    def predict(self, sentences: Sequence[Sentence] | Sequence[tuple[Sentence, Sentence]]) -> list[Prediction]:
        """Predict labels and their probabilities.

        :param sentences: strings or lists of tokens; for pair tasks, pairs of them.
        """
        if isinstance(sentences, str):
            raise InputError("predict takes a list of sentences, got one string; for one sentence pass [text]")
        spec = self.description.spec
        examples = []
        for number, each in enumerate(sentences):
            parts: Any = each if spec.is_pair else (each,)
            if isinstance(parts, str) or len(parts) != len(spec.sentences):
                raise InputError(f"sentence {number} must be a pair of sentences: {' and '.join(spec.sentences)}")
            if not all(isinstance(part, Iterable) for part in parts):
                raise InputError(f"sentence {number}: expected a string or a list of tokens, got {each!r}")
            as_tuples = tuple(part if isinstance(part, str) else tuple(part) for part in parts)
            examples.append(Example(as_tuples, (), f"sentence {number}"))
        return predict(self.model, TaskData(examples, self.model, self.tokenizer)) if examples else []

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        encoder: str | Path | None = None,
        dtype: torch.dtype = torch.float32,
        overwrite: bool = False,
    ) -> None:
        """Write the folder; an earlier one is replaced only when everything is written.

        :param encoder: model folder or name of the language model, to store a reference and not a copy. Unless it is a
            released model, :meth:`from_pretrained` then needs ``encoder`` too.
        :param dtype: dtype of the task's weights on disk; modules compute in float32.
        :param overwrite: replace an earlier task folder.
        """
        with folders.writing_folder(
            Path(folder), manifest=MANIFEST, overwrite=overwrite, folders=(ENCODER_FOLDER,)
        ) as new:
            files.write_bytes(new / WEIGHTS_FILE, save(_task_weights(self.model, dtype)))
            files.write_bytes(new / TOKENIZER_FILE, self.tokenizer.to_bytes())
            static = self.model.inputs.static
            if static is not None:
                files.write_bytes(new / WORDS_FILE, "".join(f"{word}\n" for word in static.words).encode())
            columns = {**self.columns.given, "label_separator": self.columns.label_separator}
            entries = folders.file_entries(new)
            content = {
                "format_version": FORMAT_VERSION,
                **asdict(self.description),
                "labels": list(self.description.labels),
                "columns": {name: value for name, value in columns.items() if value is not None},
                "static": None if static is None else {"size": static.size, "is_trained": static.weight.requires_grad},
                "encoder": self._save_encoder(new, encoder),
                "files": entries,
            }
            files.write_manifest(new / MANIFEST, content)

    def _save_encoder(self, new: Path, encoder: str | Path | None) -> dict[str, Any] | None:
        """Copy the language model, or return a reference to it."""
        if self.model.elmo is None:
            return None
        if encoder is None:
            self.model.elmo.save_pretrained(new / ENCODER_FOLDER)
            name, found = ENCODER_FOLDER, new / ENCODER_FOLDER
        else:
            found = model_folder(encoder)
            name = str(found.resolve()) if Path(encoder).is_dir() else str(encoder)
        return {"folder": name, ENCODER_MANIFEST: files.file_entry(found / ENCODER_MANIFEST)}

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, head: HeadFactory | None = None, encoder: str | Path | None = None
    ) -> TaskCheckpoint:
        """Load a task, in evaluation mode, on the CPU.

        :param folder: a task folder, the folder of the run that made it, or the name of a released task.
        :param head: factory of the custom head, if the task was trained with one.
        :param encoder: the language model, if the folder refers to one that is neither in it nor released with the
            package: such a reference is not followed by itself.
        :raises InputError: a file is missing or damaged, or the language model is not the one of the training.
        """
        folder = task_folder(folder)
        path = folder / MANIFEST
        description, content = read_description(folder)
        match content:
            case {
                "columns": dict(fields),
                "static": None | {"size": int(), "is_trained": bool()} as static,
                "encoder": None | {"folder": str()} as reference,
            }:
                columns = read_fields(ExampleColumns, fields, where=f"{path}, 'columns'")
            case _:
                raise InputError(f"{path}: 'columns', 'static' or 'encoder' is missing or invalid")
        required = {WEIGHTS_FILE, TOKENIZER_FILE, *([WORDS_FILE] if static is not None else [])}
        if missing := required - content["files"].keys():
            raise InputError(f"{path}: 'files' must name {min(missing)}")
        if description.head is None and head is None:
            raise InputError(f"{folder}: this task has a custom head: pass its factory as `head`")
        if description.head is not None and head is not None:
            raise InputError(f"{folder}: this task has no custom head; drop `head`")
        weights = TensorFile(folder / WEIGHTS_FILE)
        elmo = None if reference is None else _load_encoder(reference, folder, encoder)
        with error_prefix(str(path)):
            columns.check(description.task)
            vectors = None
            with nullcontext() if head is not None else without_weights():  # wrong sizes allocate no memory
                if static is not None:
                    words = (folder / WORDS_FILE).read_bytes().decode("utf-8", "replace").split("\n")[:-1]
                    vectors = StaticEmbedding(words, size=static["size"])
                model = TaskModel.build(description, elmo, vectors, custom_head=head)
        fill(_TaskModules(model), weights)
        if model.inputs.static is not None and static is not None:
            model.inputs.static.weight.requires_grad_(static["is_trained"])
        return cls(description, model.eval(), SentenceTokenizer.load(folder / TOKENIZER_FILE), columns)


class _TaskModules(nn.Module):
    """The modules of a task model without the language model."""

    def __init__(self, model: TaskModel) -> None:
        super().__init__()
        self.inputs = model.inputs
        self.head = model.head
        self.objective = model.objective


def _task_weights(model: TaskModel, dtype: torch.dtype) -> dict[str, Tensor]:
    weights = {name: each.detach().cpu() for name, each in _TaskModules(model).state_dict().items()}
    return {name: (each.to(dtype) if each.is_floating_point() else each).contiguous() for name, each in weights.items()}


def read_description(folder: Path) -> tuple[TaskDescription, dict[str, Any]]:
    """Return the configuration of the task in a folder and its manifest; all files are verified, no weights loaded."""
    path, content = folder / MANIFEST, folders.open_folder(folder, MANIFEST, kind="task", version=FORMAT_VERSION)
    match content:
        case {"task": str(task), "labels": [str(), *_] as labels, "inputs": inputs, "head": head} if task in TASKS:
            description = TaskDescription(
                task=task,
                labels=tuple(map(str, labels)),
                inputs=read_fields(InputConfig, inputs, where=f"{path}, 'inputs'"),
                head=None if head is None else read_fields(HEAD_CONFIGS[task], head, where=f"{path}, 'head'"),
                is_multi_label=bool(content.get("is_multi_label")),
                scheme=content.get("scheme"),
            )
            return description, content
    raise InputError(f"{path}: 'task' must be one of {', '.join(TASKS)}, and 'labels' a list of names")


def _load_encoder(reference: dict[str, Any], folder: Path, given: str | Path | None) -> ELMo:
    """Load the language model of a task, and check that it is the one of the training.

    :param reference: name and checksum, from the manifest.
    :param given: the user's path or name.
    """
    name = reference["folder"]
    if given is not None:
        found = model_folder(given)
    elif name == ENCODER_FOLDER:
        found = folder / ENCODER_FOLDER
    elif name in released_models():
        found = model_folder(name)
    else:
        raise InputError(
            f"{folder}: refers to the language model {name!r}, which is not in it: pass its folder as `encoder`"
        )
    manifest = found / ENCODER_MANIFEST
    if not manifest.is_file():
        raise InputError(f"{manifest} is missing: it belongs to the language model of {folder}")
    if files.file_entry(manifest) != reference.get(ENCODER_MANIFEST):
        raise InputError(f"{manifest}: damaged, or not the language model that {folder} was trained with")
    return ELMo.from_pretrained(found)


def load_custom_head(reference: str) -> HeadFactory:
    """Run a Python file and return the head factory in it.

    :param reference: ``FILE.py:NAME``, a class or function.
    """
    path, _, name = reference.rpartition(":")
    if path and not Path(path).is_file():
        raise InputError(f"{path}: no such file (custom head {reference})")
    spec = importlib.util.spec_from_file_location(f"_custom_head_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{reference}: expected FILE.py:NAME, a class or function in a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{reference}: {path} fails: {type(error).__name__}: {error}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        valid = [each for each, value in vars(module).items() if callable(value)]
        raise InputError(f"{reference}: {path} has no class or function {name!r}{nearest(name, valid)}")
    return factory  # type: ignore[no-any-return]
