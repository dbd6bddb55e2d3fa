"""Check that weights, vectors, predictions, flags and public names stay the same across a refactoring.

``python tests/invariants.py`` computes each item, prints it and compares it with ``tests/invariants.json``; the exit
code is 1 if one differs. ``--record`` writes the file, ``--only PREFIX`` selects items by the beginning of their name.
Only the public interface is used: the names in ``elmolite.__all__``, settings, the command line, files in folders.

Hashes are reproducible on one kind of machine only. On another processor or torch version they are not compared: the
flags and names are, and the folders of earlier versions are opened and used.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "COLUMNS": "200", "NO_COLOR": "1"}

import argparse
import contextlib
import csv
import hashlib
import io
import json
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

import elmolite

# All names of settings, options and files that the runs below use; a renamed one is renamed here.
MODEL = {
    "filters": [(1, 4), (2, 4), (3, 8)],
    "character_embedding_size": 4,
    "cell_size": 16,
    "projection_size": 8,
    "n_highway_layers": 1,
}
TRAINING = {
    "max_steps": 200,
    "batch_size": 4,
    "bptt_length": 10,
    "warmup_steps": 10,
    "learning_rate": 0.02,
    "n_validations": 2,
    "log_every_steps": 10,
}
LARGE_TRAINING = {"max_steps": 60, "valid_tokens": 200}
SHORT = {"max_steps": 60}
RUNS: dict[str, dict[str, Any]] = {
    # corpus, settings of the model, settings of training
    "lstm-full": {"training": {"softmax": "full"}},
    "sampled": {"training": {"softmax": "sampled", "n_negatives": 32}},
    "adaptive": {"corpus": "large", "training": {"softmax": "adaptive", **LARGE_TRAINING}},
    "sampled-large": {"corpus": "large", "training": {"softmax": "sampled", "n_negatives": 64, **LARGE_TRAINING}},
    "words-large": {
        "corpus": "large",
        "model": {"input": "words"},
        "training": {"softmax": "sampled", "n_negatives": 64, "ema_decay": 0.9, **LARGE_TRAINING},
    },
    "gru": {"model": {"cell": "gru"}},
    "carried-state": {"training": {"reset_probability": 0.0}},
    "reset-state": {"training": {"reset_probability": 1.0}},
    "words": {"model": {"input": "words"}},
    "unicode": {"corpus": "unicode"},
    "bf16": {"training": {"precision": "bf16-mixed"}},
    "ema": {"training": {"ema_decay": 0.9}},
    "accumulated": {"training": {"accumulate_steps": 2, "max_steps": 40}},
    "patience": {"training": {"patience": 1, "n_validations": 20, "learning_rate": 0.2, "max_grad_norm": 100.0}},
    "regularised": {
        "model": {"dropout": 0.3, "variational_dropout": True, "recurrent_dropout": 0.2, "embedding_dropout": 0.2},
        "training": {"activation_regularization": 2.0, "temporal_activation_regularization": 1.0, "seed": 7, **SHORT},
    },
    "plain-layers": {
        "model": {
            "cell_size": 8,
            "use_projection": False,
            "projection_clip": None,
            "use_residual": False,
            "n_layers": 3,
            "activation": "tanh",
            "forget_bias": 0.5,
        },
        "training": SHORT,
    },
    "init-from": {"corpus": "unlike", "init_from": "lstm-full", "training": {"max_steps": 60}},
}
TWO_PROCESSES = {"n_devices": 2, "max_steps": 40}
TWO_PROCESSES_TIMEOUT = 300
HEAD = {"hidden_size": 8, "dropout": 0.1}
INPUTS = {"dropout": 0.1}
FINETUNING = {"n_epochs": 4, "patience": 40, "batch_size": 8, "learning_rate": 0.02}
TASKS: dict[str, dict[str, Any]] = {
    # task, file, settings of the head, of what it reads, of training
    "classify": {"task": "classify", "file": "classes.txt"},
    "classify-several-labels": {"task": "classify", "file": "label-sets.tsv"},
    "classify-cnn": {"task": "classify", "file": "classes.txt", "head": {"kind": "cnn"}},
    "classify-biattentive": {
        "task": "classify",
        "file": "classes.txt",
        "head": {"kind": "biattentive"},
        "inputs": {"output_mix": True, "normalization": "layer"},
    },
    "classify-gradual": {"task": "classify", "file": "classes.txt", "training": {"encoder_training": "gradual"}},
    "tag": {"task": "tag", "file": "onsets.conll"},
    "tag-spans": {"task": "tag", "file": "spans.conll"},
    "tag-static": {"task": "tag", "file": "spans.conll", "inputs": {"static": "vectors.txt", "train_static": True}},
    "entail": {"task": "entail", "file": "pairs.tsv"},
}
RUN_ARGUMENTS = {"show_progress": False}
PREPARE_ARGUMENTS = {"n_workers": 1, "show_progress": False}
MODEL_FOLDER = "model"
WEIGHT_FILES = ("model.safetensors", "softmax.safetensors")
LOG_FILE = "log.csv"
LOG_COLUMNS = (
    "step",
    "loss",
    "learning_rate",
    "gradient_norm",
    "valid_forward",
    "valid_backward",
    "valid_average",
    "skipped_steps",
)

HERE = Path(__file__).resolve().parent
RECORD = HERE / "invariants.json"
FIXTURES = HERE / "fixtures" / "v0_1"
Words = list[str]


# Hashes


def sha256(*parts: bytes | str) -> str:
    """Return the SHA-256 of parts, whose lengths count too."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def hash_of_arrays(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of arrays: kind, shape and content of each."""
    parts = []
    for array in arrays:
        parts += [str(array.dtype), str(array.shape), np.ascontiguousarray(array).tobytes()]
    return sha256(*parts)


def hash_of_weights(folder: Path) -> str:
    """Return the SHA-256 of all tensors of a model folder, in order of file and name."""
    parts: list[bytes | str] = []
    for file in WEIGHT_FILES:
        for name, array in sorted(load_file(folder / file).items()):
            parts += [f"{file}/{name}", hash_of_arrays([array])]
    return sha256(*parts)


def hash_of_log(run: Path) -> str:
    """Return the SHA-256 of the log, but for its times."""
    with (run / LOG_FILE).open(newline="", encoding="utf-8") as file:
        rows = [[row[column] for column in LOG_COLUMNS] for row in csv.DictReader(file)]
    return sha256(json.dumps(rows))


def rounded(value: Any) -> Any:
    """Return plain values with all numbers rounded to 6 digits."""
    match value:
        case float():
            return round(value, 6) + 0.0  # -0.0 is 0.0
        case dict():
            return {key: rounded(each) for key, each in value.items()}
        case list() | tuple():
            return [rounded(each) for each in value]
    return value


def hash_of_json(value: Any) -> str:
    """Return the SHA-256 of plain values with rounded numbers."""
    return sha256(json.dumps(rounded(value), sort_keys=True))


# Text: only random.Random(seed).random() is used, which gives the same numbers in all versions of Python.

ONSETS = ("ba", "ki", "lu", "do", "me", "ra")
RESTS = ("n", "st", "ve", "ly", "é", "rn", "ç", "nd", "li", "-x", "ş", "льо")
SYLLABLES = [onset + vowel for onset in "bdfgklmnprstvz" for vowel in "aeiou"]
ENGLISH_TEXT = (
    "the of and to in a was is he for it with as his on be at by had not are but from or have an they which one "
    "you were her all she there would their we him been has when who will more no if out so said what up its "
    "about into than them can only other new some could time these two may then do first any my now such like our "
    "over man me even most made after also did many before must through back years where much your way well down "
    "should because each just those people Mr. how too little state good very make world still own see men work "
    "long get here between both life being under never day same another know while last might us great old year "
    "off come since against go came right used take three bank play children garden river London Paris Europe "
    "don't can't well-known 1984 3.14 $5 e-mail U.S. o'clock naïve café Straße "
)
ENGLISH = ENGLISH_TEXT.split()
ODD = [
    "日本語",
    "🙂",
    "ﬁ",
    "e\u0301",
    "x" * 60,
    "Donaudampfschifffahrtsgesellschaft",
    "...",
    "—",
    "<S>",
    "&amp;",
    "İ",
    "10,000",
]


class Generator:
    """Numbers at random from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, n: int) -> int:
        """Return a number of 0 to n - 1."""
        return int(self._random.random() * n)

    def choose(self, values: Sequence[Any]) -> Any:
        """Return one of them."""
        return values[self.below(len(values))]


def small_words() -> Words:
    """Return some hundred words, of ASCII and other letters."""
    return [onset + rest + end for end in ("", "o", "ir", "um") for onset in ONSETS for rest in RESTS]


def large_words(n: int) -> Words:
    """Return many words of three syllables."""
    return [
        SYLLABLES[i % 70] + SYLLABLES[i // 70 % 70] + SYLLABLES[i // 4900 % 70]
        for i in (number * 7919 % 343_000 for number in range(n))
    ]


def sentences_of(words: Words, n: int, *, seed: int, longest: int = 12) -> list[Words]:
    """Return sentences in which a word depends on the one before."""
    generator = Generator(seed)
    sentences = []
    for _ in range(n):
        at = generator.below(len(words))
        sentence = []
        for _ in range(1 + generator.below(longest)):
            sentence.append(words[at])
            at = (at * 7 + 1 + generator.below(3)) % len(words)
        sentences.append(sentence)
    return sentences


def running_text(sentences: list[Words], *, document_every: int = 12) -> str:
    """Return sentences as paragraphs of three, with capitals and punctuation, and blank lines between documents."""
    generator, lines = Generator(0), []
    for begin in range(0, len(sentences), 3):
        if begin and begin % document_every == 0:
            lines.append("")
        ends = [generator.choose((".", ".", "!", "?")) for _ in range(3)]
        three = zip(sentences[begin : begin + 3], ends, strict=False)
        lines.append(" ".join(" ".join(words).capitalize() + end for words, end in three))
    return "\n".join(lines) + "\n"


def lines_of(sentences: list[Words], *, document_every: int = 10) -> str:
    """Return a sentence a line, and blank lines between documents."""
    lines = []
    for number, words in enumerate(sentences):
        if number and number % document_every == 0:
            lines.append("")
        lines.append(" ".join(words))
    return "\n".join(lines) + "\n"


def large_text() -> str:
    """Return lines with each of 32,000 words, more than half of which stand there once."""
    words, generator = large_words(32_000), Generator(3)
    drawn = [words[int(len(words) * generator._random.random() ** 4)] for _ in range(40_000)]
    order = [*drawn[:20_000], *words, *drawn[20_000:]]
    return lines_of([order[i : i + 12] for i in range(0, len(order), 12)])


def english_sentences(n: int) -> list[Words]:
    """Return 3 to 30 tokens each, of which one in twenty is odd."""
    generator = Generator(5)
    return [
        [generator.choose(ODD if generator.below(20) == 0 else ENGLISH) for _ in range(3 + generator.below(28))]
        for _ in range(n)
    ]


# The files of the tasks: labels follow from the words.


def _of_onset(onset: str, generator: Generator, longest: int = 5) -> Words:
    return [onset + generator.choose(RESTS[:5]) for _ in range(1 + generator.below(longest))]


def classes() -> str:
    """Return lines of ``label text``."""
    generator = Generator(11)
    rows = [(("left", "ba"), ("right", "ki"), ("none", "lu"))[i % 3] for i in range(48)]
    return "".join(f"{label} {' '.join(_of_onset(onset, generator))}\n" for label, onset in rows)


def label_sets() -> str:
    """Return a table whose labels are the onsets, one or two."""
    generator = Generator(12)
    sets = [("ba",), ("ki",), ("ba", "ki"), ("lu", "ba")]
    rows = ["text\tlabel"]
    for i in range(48):
        words = [word for onset in sets[i % 4] for word in _of_onset(onset, generator, 3)]
        rows.append(f"{' '.join(words)}\t{'|'.join(onset for onset in sets[i % 4])}")
    return "\n".join(rows) + "\n"


def tagged(*, as_spans: bool) -> str:
    """Return columns of words and tags: the onset, or spans of words of one onset."""
    blocks = []
    for words in sentences_of([onset + rest for onset in ONSETS[:3] for rest in RESTS[:5]], 40, seed=13, longest=8):
        rows, before = [], None
        for word in words:
            kind = {"ki": "K", "lu": "L"}.get(word[:2])
            span = "O" if kind is None else f"{'I' if kind == before else 'B'}-{kind}"
            rows.append(f"{word}\t{span if as_spans else word[:2]}\n")
            before = kind
        blocks.append("".join(rows))
    return "\n".join(blocks)


def pairs() -> str:
    """Return a table of pairs, which have words of the same onset or not."""
    generator, rows = Generator(14), ["premise\thypothesis\tlabel"]
    for _ in range(48):
        onsets = [generator.choose(("ba", "ki")) for _ in range(2)]
        sides = [" ".join(_of_onset(onset, generator, 3)) for onset in onsets]
        rows.append("\t".join([*sides, "same" if onsets[0] == onsets[1] else "other"]))
    return "\n".join(rows) + "\n"


def static_vectors() -> str:
    """Return vectors of words, in which those of one onset are alike."""
    generator, rows = Generator(15), []
    for onset in ONSETS[:3]:
        for rest in RESTS[:5]:
            numbers = [float(onset == each) + 0.2 * generator._random.random() for each in ONSETS]
            rows.append(" ".join([onset + rest, *(f"{number:.4f}" for number in numbers)]))
    return "\n".join(rows) + "\n"


TASK_FILES: dict[str, Callable[[], str]] = {
    "classes.txt": classes,
    "label-sets.tsv": label_sets,
    "onsets.conll": lambda: tagged(as_spans=False),
    "spans.conll": lambda: tagged(as_spans=True),
    "pairs.tsv": pairs,
}


# The command line


@cache
def command_line() -> str:
    """Return where the command is, as ``module:function``: as the checkout says, or else as what is installed says."""
    for folder in Path(elmolite.__file__).resolve().parents[1:3]:
        if (project := folder / "pyproject.toml").is_file():
            return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["scripts"]["elmolite"])
    from importlib.metadata import entry_points

    return next(iter(entry_points(group="console_scripts", name="elmolite"))).value


def run_command(*arguments: str | Path) -> str:
    """Run a command in this process, and return what it printed; it must succeed."""
    module, _, function = command_line().partition(":")
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            code = getattr(import_module(module), function)([str(argument) for argument in arguments])
        except SystemExit as end:  # of --help
            code = end.code
    if code:
        raise RuntimeError(f"elmolite {' '.join(map(str, arguments))}: exit code {code}\n{complained.getvalue()}")
    return said.getvalue()


def option(name: str) -> str:
    """Return the flag of a setting."""
    return "--" + name.replace("_", "-")


def flags_in(text: str) -> list[str]:
    """Return the option strings of a help text."""
    heads = (re.split(r" {2,}", line.strip())[0] for line in text.splitlines() if re.match(r" +-", line))
    return sorted({flag for head in heads for flag in re.findall(r"(?<![\w.-])--?[A-Za-z][\w.+-]*", head)})


# The items


class Items:
    """Computes items, each once; what they need of one another is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        """:param folder: for all that is written."""
        self.folder = folder
        self.corpus = cache(self._corpus)
        self.run = cache(self._run)

    # Names and flags

    def lists(self) -> dict[str, Callable[[], list[str]]]:
        """Return what computes each list."""
        items: dict[str, Callable[[], list[str]]] = {
            "public/__all__": lambda: sorted(elmolite.__all__),
            "public/commands": self._commands,
        }
        for command in [name for name in self._commands() if name != "finetune"]:
            items[f"flags/{command}"] = lambda command=command: flags_in(run_command(command, "--help"))
        for task in ("classify", "tag", "entail"):
            items[f"flags/finetune-{task}"] = lambda task=task: flags_in(run_command("finetune", task, "--help"))
        return items

    def _commands(self) -> list[str]:
        return sorted(re.findall(r"^ {2,4}([a-z][a-z-]+)[ \n]", run_command("--help"), re.MULTILINE))

    # Hashes

    def hashes(self) -> dict[str, Callable[[], dict[str, str]]]:
        """Return what computes each hash, or several whose names begin with that of the item and a slash."""
        items: dict[str, Callable[[], dict[str, str]]] = {}
        for name in ("text", "unicode", "large", "unlike"):
            items[f"corpus/{name}"] = lambda name=name: {"": self._hash_of_corpus(name)}
        for name in [*RUNS, "two-processes"]:
            items[f"run/{name}"] = lambda name=name: {
                "/weights": hash_of_weights(self.run(name) / MODEL_FOLDER),
                "/log": hash_of_log(self.run(name)),
            }
        items["evaluate"] = lambda: {"": self._evaluation()}
        for name, function in self._embeddings().items():
            items[f"embed/{name}"] = lambda function=function: {"": function()}
        for name in TASKS:
            items[f"task/{name}"] = lambda name=name: {"": self._task(name)}
        for name in ("corpus", "model", "task-classify", "task-tag", "embeddings", "run"):
            items[f"fixtures/{name}"] = lambda name=name: {"": use_fixture(name, self.folder)}
        return items

    def write(self, name: str, text: str) -> Path:
        """Write a file, and return where it is."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def _corpus(self, name: str) -> Path:
        """Prepare a corpus, from Python or from the command line."""
        out = self.folder / f"corpus-{name}"
        if name == "large":
            text = self.write("large.txt", large_text())
            valid = self.write("valid.txt", lines_of(sentences_of(large_words(500), 40, seed=4)))
            elmolite.prepare(str(text), out, valid=str(valid), min_count=1, **PREPARE_ARGUMENTS)
        elif name == "unicode":
            text = self.write("lines.txt", lines_of(sentences_of(small_words(), 1_200, seed=2)))
            run_command(
                *("prepare", text, "--pretokenized", "--characters", "unicode", "--min-character-count", "2"),
                *("--vocab-size", "200", "--workers", "1", "--out", out),
            )
        else:
            words = small_words()[::-2] if name == "unlike" else small_words()
            text = self.write(f"{name}.txt", running_text(sentences_of(words, 1_200, seed=1)))
            elmolite.prepare(str(text), out, **PREPARE_ARGUMENTS)
        return out

    def _hash_of_corpus(self, name: str) -> str:
        parts: list[bytes | str] = []
        for path in sorted(self.corpus(name).iterdir()):
            if path.suffix != ".json":
                parts += [path.name, path.read_bytes()]
        return sha256(*parts)

    def _run(self, name: str) -> Path:
        """Pretrain, and return the run folder."""
        out = self.folder / f"run-{name}"
        if name == "two-processes":
            return self._run_in_two_processes(out)
        run = RUNS[name]
        init_from = run.get("init_from")
        elmolite.pretrain(
            elmolite.PretrainingConfig(**{**TRAINING, **run.get("training", {})}),
            model=elmolite.BiLMConfig(**{**MODEL, **run.get("model", {})}),
            corpus=self.corpus(run.get("corpus", "text")),
            out=out,
            init_from=None if init_from is None else self.run(init_from) / MODEL_FOLDER,
            **RUN_ARGUMENTS,
        )
        return out

    def _run_in_two_processes(self, out: Path) -> Path:
        """Pretrain from the command line, in a process that starts another."""
        module, _, function = command_line().partition(":")
        program = self.write("command.py", f"import sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n")
        arguments = ["pretrain", "--corpus", str(self.corpus("text")), "--out", str(out)]
        for name, value in {**TRAINING, **TWO_PROCESSES}.items():
            arguments += [option(name), str(value)]
        for name, value in MODEL.items():
            text = json.dumps(value) if isinstance(value, list) else str(value)
            arguments += [f"--model.{name.replace('_', '-')}", text]
        search = [str(Path(elmolite.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, str(program), *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search)), "TORCH_CPP_LOG_LEVEL": "ERROR"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TWO_PROCESSES_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"two processes: exit code {done.returncode}\n{done.stdout}")
        return out

    def _evaluation(self) -> str:
        """Return the hash of the perplexities of a text."""
        text = self.write("other.txt", running_text(sentences_of(small_words(), 60, seed=21)))
        return hash_of_json(
            [
                json.loads(run_command("evaluate", self.run(name) / MODEL_FOLDER, text, "--json"))
                for name in ("lstm-full", "adaptive", "words")
            ]
        )

    def _embeddings(self) -> dict[str, Callable[[], str]]:
        """Return what computes hashes of vectors; each has a model of its own, with an empty cache of words."""
        tokens = english_sentences(1_000)
        strings = [" ".join(words).replace(" ...", "...") for words in tokens]

        def model(**options: Any) -> Any:
            return elmolite.ELMo.from_pretrained("mini-en", **options)

        def aligned() -> str:
            found = model().embed_aligned(strings[:200], layers="top")
            of_tokens = hash_of_json([[each.tokens, each.offsets] for each in found])
            return sha256(of_tokens, hash_of_arrays([each.vectors for each in found]))

        def without_common() -> str:
            elmo = model()
            vectors = elmo.embed_sentences(strings[:200])
            return hash_of_arrays([elmolite.CommonComponent.fit(vectors).remove(vectors)])

        def carried() -> str:
            elmo = model()
            calls = [elmo.embed(tokens[i : i + 50], carry_state=True) for i in (0, 50, 100)]
            return hash_of_arrays([each for call in calls for each in call])

        def to_file(suffix: str, *options: str) -> str:
            out = self.folder / f"vectors-{suffix.strip('.')}{suffix if suffix == '.npz' else ''}"
            text = self.write("sentences.txt", "\n".join(strings[:100]) + "\n")
            run_command("embed", "mini-en", "--input", text, "--output", out, *options)
            if suffix == ".npz":
                with np.load(out) as arrays:
                    return hash_of_arrays(arrays[name] for name in sorted(arrays.files))
            return hash_of_arrays(elmolite.EmbeddingFolder(out))

        return {
            "tokens-all-layers": lambda: hash_of_arrays(model().embed(tokens)),
            "strings-all-layers": lambda: hash_of_arrays(model().embed(strings)),
            "tokenizer-and-offsets": aligned,
            "top-one-by-one": lambda: hash_of_arrays(model().embed_iter(tokens[:200], layers="top", batch_tokens=100)),
            "average-long-sentence": lambda: hash_of_arrays(
                model().embed([[word for words in tokens[:40] for word in words]], layers="average", batch_tokens=100)
            ),
            "carried-state": carried,
            "bf16": lambda: hash_of_arrays(model(precision="bf16-mixed").embed(tokens[:200])),
            "sentences-weighted": lambda: hash_of_arrays([model().embed_sentences(strings, pooling="weighted")]),
            "sentences-max": lambda: hash_of_arrays([model().embed_sentences(strings[:200], pooling="max", layers=1)]),
            "sentences-without-common": without_common,
            "file-npz": lambda: to_file(".npz", "--layers", "1", "--dtype", "float16"),
            "file-folder": lambda: to_file("folder", "--pretokenized"),
            "neighbours": lambda: sha256(
                run_command(
                    *("neighbours", "mini-en", self.write("neighbours.txt", "\n".join(strings[:300]) + "\n")),
                    *("--query", "they [play] in the garden", "-n", "3"),
                )
            ),
        }

    def _task(self, name: str) -> str:
        """Train a task; return the hash of its predictions from Python and the command line, and of their scores."""
        task = TASKS[name]
        kind = task["task"]
        heads = {"classify": elmolite.ClassifyConfig, "tag": elmolite.TagConfig, "entail": elmolite.EntailConfig}
        path = self.write(task["file"], TASK_FILES[task["file"]]())
        inputs = {**INPUTS, **task.get("inputs", {})}
        if "static" in inputs:
            inputs["static"] = str(self.write(inputs["static"], static_vectors()))
        result = elmolite.finetune(
            kind,
            encoder=self.run("lstm-full") / MODEL_FOLDER,
            train=path,
            out=self.folder / f"task-{name}",
            config=elmolite.FinetuningConfig(**{**FINETUNING, **task.get("training", {})}),
            inputs=elmolite.InputConfig(**inputs),
            head=heads[kind](**{**HEAD, **task.get("head", {})}),
            cache=self.folder / "cache",
            **RUN_ARGUMENTS,
        )
        return hash_of_json(predictions(self.folder / f"task-{name}", path, self.folder) + _epochs(result.epochs))


def _epochs(epochs: list[dict[str, float]]) -> list[Any]:
    """Return the epochs without their times."""
    return [{name: value for name, value in epoch.items() if "seconds" not in name} for epoch in epochs]


def predictions(folder: Path, path: Path, scratch: Path) -> list[Any]:
    """Return the predictions of a file, and the scores, as the command line gives them."""
    out = scratch / "predictions.jsonl"
    run_command("predict", folder, "--input", path, "--output", out)
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return [*records, json.loads(run_command("test", folder, path, "--json"))]


# The folders of version 0.1


def use_fixture(name: str, scratch: Path) -> str:
    """Copy the folders of an earlier version, use one of them, and return the hash of what it gives."""
    root = scratch / f"fixtures-{name}"
    shutil.copytree(FIXTURES, root)
    inputs = root / "inputs"
    sentences = (inputs / "sentences.txt").read_text(encoding="utf-8").splitlines()
    if name == "corpus":
        elmolite.pretrain(
            elmolite.PretrainingConfig(**{**TRAINING, "max_steps": 20}),
            model=elmolite.BiLMConfig(**MODEL),
            corpus=root / "corpus",
            out=root / "new-run",
            **RUN_ARGUMENTS,
        )
        return hash_of_weights(root / "new-run/model")
    if name == "model":
        vectors = elmolite.ELMo.from_pretrained(root / "model").embed(sentences[:5])
        perplexities = json.loads(run_command("evaluate", root / "model", inputs / "text.txt", "--json"))
        return sha256(hash_of_arrays(vectors), hash_of_json(perplexities))
    if name.startswith("task-"):
        path = inputs / ("classify.txt" if name == "task-classify" else "tag.conll")
        from_python = elmolite.TaskCheckpoint.from_pretrained(root / name).predict(sentences[:5])
        return hash_of_json([*predictions(root / name, path, root), [list(each.labels) for each in from_python]])
    if name == "embeddings":
        before = hash_of_arrays(elmolite.EmbeddingFolder(root / "embeddings"))
        longer = root / "longer.txt"
        longer.write_text("\n".join([*sentences, sentences[0]]) + "\n", encoding="utf-8")
        run_command("embed", root / "model", "--input", longer, "--output", root / "embeddings")
        after = elmolite.EmbeddingFolder(root / "embeddings")
        return sha256(before, hash_of_arrays(after[i] for i in range(len(after))))
    run_command("pretrain", "--out", root / "run", "--corpus", root / "corpus", "--resume")
    return sha256(hash_of_weights(root / "run" / MODEL_FOLDER), hash_of_log(root / "run"))


# Recording and comparing


def machine() -> dict[str, str]:
    """Return what the hashes depend on beside the code."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = (re.search(r"model name\s*: (.*)", text) or ["", model])[1]
    return {
        "cpu": model,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def compute(items: Items, only: str, *, with_hashes: bool) -> Iterator[tuple[str, str | list[str], float]]:
    """Yield the name, the value and the seconds of each item whose name begins so.

    :param with_hashes: or else the lists alone, and the folders of earlier versions, to see whether they open.
    """

    def is_wanted(name: str) -> bool:
        if not with_hashes and not name.startswith(("public/", "flags/", "fixtures/")):
            return False
        return name.startswith(only) or only.startswith(f"{name}/")

    for name, function in {**items.lists(), **items.hashes()}.items():
        if not is_wanted(name):
            continue
        since = time.perf_counter()
        try:
            value: Any = function()
        except Exception as error:
            value = {"": f"FAILED: {type(error).__name__}: {error}"}
        for suffix, each in value.items() if isinstance(value, dict) else [("", value)]:
            if f"{name}{suffix}".startswith(only) or str(each).startswith("FAILED"):
                yield f"{name}{suffix}", each, time.perf_counter() - since


def difference(recorded: Any, found: Any) -> str:
    """Return what is new and what is gone, or that a hash is another."""
    if isinstance(recorded, list) and isinstance(found, list):
        new, gone = ([each for each in a if each not in b] for a, b in ((found, recorded), (recorded, found)))
        return " ".join(["+ " + "  + ".join(new)] * bool(new) + ["- " + "  - ".join(gone)] * bool(gone)) or "order"
    if isinstance(found, str) and found.startswith("FAILED"):
        return found
    if recorded is None:
        return "is not recorded"
    return f"{found} (recorded: {recorded})"


def compare(recorded: dict[str, Any], found: dict[str, Any], *, only: str, same_machine: bool) -> list[str]:
    """Return a line for each difference."""
    earlier = {**recorded["lists"], **recorded["hashes"]}
    lines = []
    for name, value in found.items():
        is_failure = isinstance(value, str) and value.startswith("FAILED")
        is_compared = isinstance(value, list) or is_failure or same_machine
        if is_compared and earlier.get(name) != value:
            lines.append(f"{name}: {difference(earlier.get(name), value)}")
    lines += [f"{name}: is gone" for name in earlier if name.startswith(only) and name not in found]
    return lines


def save(found: dict[str, Any], *, only: str) -> None:
    """Write what was computed in the place of what was recorded under the same beginning of the name."""
    content: dict[str, Any] = {"machine": machine(), "hashes": {}, "lists": {}}
    if only and RECORD.is_file():
        content |= json.loads(RECORD.read_text(encoding="utf-8"))
        if content["machine"] != machine():
            sys.exit(f"{RECORD} is of another machine: record all of it")
    for kind, type_ in (("hashes", str), ("lists", list)):
        kept = {name: value for name, value in content[kind].items() if not name.startswith(only)}
        new = {name: value for name, value in found.items() if isinstance(value, type_)}
        content[kind] = dict(sorted({**kept, **new}.items()))
    RECORD.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    """Compute, print, and record or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name} instead of comparing with it")
    parser.add_argument("--only", default="", metavar="PREFIX", help="items whose names begin so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print(f"elmolite of {Path(elmolite.__file__).parent}", flush=True)
    recorded = None
    if not options.record:
        recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    same_machine = recorded is None or recorded["machine"] == machine()
    found: dict[str, Any] = {}
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        items = Items(Path(folder))
        for name, value, seconds in compute(items, options.only, with_hashes=same_machine):
            found[name] = value
            shown = value if isinstance(value, str) else sha256(json.dumps(value))
            print(f"{name} {shown}  [{seconds:.1f} s]", flush=True)
    print(f"{len(found)} items in {time.perf_counter() - begun:.0f} s")
    failed = [name for name, value in found.items() if isinstance(value, str) and value.startswith("FAILED")]
    if recorded is None:
        if failed:
            print(f"not recorded: {', '.join(failed)} failed")
            return 1
        save(found, only=options.only)
        print(f"recorded in {RECORD}")
        return 0
    if not same_machine:
        print(f"hashes are not comparable: recorded on {recorded['machine']}, this is {machine()}")
        recorded["hashes"] = {}
    lines = compare(recorded, found, only=options.only, same_machine=same_machine)
    print("\n".join(["all as recorded"] if not lines else ["DIFFERENT:", *lines]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
