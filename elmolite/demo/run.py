"""Demonstration: a released model, then docstrings of this installation -> corpus -> pretrained model -> a task.

Each step stores its result in ``demonstration.json``, from which it is printed and reported. Finished steps are not
repeated, so the same command continues a demonstration that was interrupted.
"""

from __future__ import annotations

import csv
import json
import math
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from elmolite.data.prepare import prepare
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.demo import docstrings
from elmolite.demo.code_words import TaskSize, make_splits, mark
from elmolite.demo.docstrings import Module, checksum
from elmolite.demo.report import REPORT, write_report
from elmolite.embedding.elmo import ELMo
from elmolite.embedding.neighbours import NeighbourIndex, Occurrence, parse_query, unit
from elmolite.errors import InputError, Preempted
from elmolite.hub import RUN_MODEL
from elmolite.nn.config import BiLMConfig, tiny
from elmolite.pretraining.checkpointing import TrainingCheckpoints
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.evaluation import unigram_perplexity
from elmolite.pretraining.trainer import pretrain
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.compare import compare
from elmolite.tasks.config import FinetuningConfig, InputConfig, TagConfig
from elmolite.tasks.examples.sources import TaskExamples
from elmolite.tasks.finetune import FinetuningRun
from elmolite.utils import files, folders
from elmolite.utils.console import ProgressBar, table

RELEASED, TAGGER = "mini-en", "mini-en-upos"
QUERIES = (
    "The children [play] in the park.",
    "The [play] premiered yesterday.",
    "She was a [kind] woman.",
    "What [kind] of man is he?",
)
"""Words whose nearest neighbours in :data:`SENTENCES` are printed."""
SENTENCES = "sentences.txt"
"""Sentences with several senses of common words, a resource of this package."""
N_NEIGHBOURS = 3
COMPARED = (
    "The children [play] in the park.",
    "They [play] with a ball after school.",
    "The [play] premiered yesterday.",
    "We talked about the [play] on the way home.",
)
"""A word in two senses, each in two sentences in turn."""

_RESULTS = "demonstration.json"
_N_SHOWN, _MAX_SHOWN_TOKENS = 5, 16
_VALID_EVERY = 25
"""Every 25th module, by the checksum of its name, is validation text."""


@dataclass(frozen=True)
class Size:
    """Size of the demonstration."""

    vocab_size: int
    model: BiLMConfig
    training: PretrainingConfig
    task: TaskSize
    max_modules: int | None = None
    """Maximum modules of each package; ``None`` for all."""


def _size(name: Literal["full", "smoke"]) -> Size:
    if name == "smoke":
        model = BiLMConfig(filters=[(1, 16), (2, 16), (3, 32)], cell_size=64, projection_size=32, n_highway_layers=1)
        training = PretrainingConfig(
            max_steps=150, n_validations=3, valid_tokens=3000, warmup_steps=20, learning_rate=0.01
        )
        return Size(2000, model, training, TaskSize(500, 60, 120, n_epochs=10, n_seeds=1), max_modules=40)
    training = PretrainingConfig(
        max_steps=400, n_validations=4, valid_tokens=10_000, learning_rate=0.01, warmup_steps=50
    )
    return Size(5000, tiny(), training, TaskSize(1500, 300, 900, n_epochs=5))


@dataclass
class Demonstration:
    """A demonstration in its folder."""

    out: Path
    name: Literal["full", "smoke"]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Results of the finished steps."""

    @property
    def size(self) -> Size:
        """Sizes of its parts."""
        return _size(self.name)

    @property
    def run(self) -> Path:
        """Folder of the pretraining run."""
        return self.out / "run"

    @property
    def model(self) -> Path:
        """Folder of the pretrained model."""
        return self.run / RUN_MODEL

    @property
    def command(self) -> str:
        """Command line that starts and continues it."""
        size = [] if self.name == "full" else ["--size", self.name]
        return shlex.join(["elmolite", "demo", "--out", str(self.out), *size])

    def save(self) -> None:
        """Write what is finished."""
        content = {"version": version("elmolite"), "size": self.name, "results": self.results}
        files.write_bytes(self.out / _RESULTS, files.json_bytes(content))


def run(out: Path, *, size: Literal["full", "smoke"] = "full", overwrite: bool = False) -> dict[str, Any]:
    """Run the demonstration, or continue one that was interrupted; print what it does.

    :param out: folder for the results.
    :param overwrite: begin anew, and replace an earlier demonstration in the folder.
    :returns: the result of each step, and the address of the report.
    :raises InputError: the folder contains other files, or a demonstration of another size or version.
    :raises Preempted: a signal stopped it; the same call continues.
    """
    started = time.perf_counter()
    demo = _open(out, size, overwrite=overwrite)
    texts = {}
    try:
        for number, (name, step) in enumerate(STEPS.items(), start=1):
            is_done = name in demo.results
            print(f"\n== {number}. {step.heading}{' (finished before)' if is_done else ''}", flush=True)
            introduction = step.introduction(demo)
            print(introduction, flush=True)
            if not is_done:
                step_started = time.perf_counter()
                result = step.compute(demo)
                demo.results[name] = {**result, "seconds": time.perf_counter() - step_started}
                demo.save()
            texts[name] = introduction, step.describe(demo)
            print(texts[name][1], flush=True)
    except KeyboardInterrupt:  # and SIGTERM, which the command line handles as such
        raise Preempted(f"interrupted; the same command continues: {demo.command}") from None
    commands = _next_commands(demo)
    write_report(demo.out / REPORT, demo.results, texts=texts, commands=commands)
    print(f"\n== Done in {time.perf_counter() - started:.0f} s\n")
    print("Next      " + "\n          ".join(commands))
    return {**demo.results, "report": (demo.out / REPORT).resolve().as_uri()}


def _open(out: Path, size: Literal["full", "smoke"], *, overwrite: bool) -> Demonstration:
    """Open the demonstration in a folder, or begin one."""
    if (out / _RESULTS).is_file() and not overwrite:
        content = files.read_json(out / _RESULTS, kind="demonstration")
        if (content.get("size"), content.get("version")) != (size, version("elmolite")):
            raise InputError(
                f"{out}: contains a demonstration of --size {content.get('size')} and elmolite "
                f"{content.get('version')}: pass another --out, or --overwrite to replace it"
            )
        return Demonstration(out, size, content["results"])
    _clear(out)
    demo = Demonstration(out, size)
    demo.save()
    return demo


def _clear(out: Path) -> None:
    """Remove an earlier demonstration.

    :raises InputError: the folder has files, but no demonstration.
    """
    folders.check_writable(out)
    found = [path.name for path in out.iterdir() if path.name[0] != "."] if out.is_dir() else []
    if found and _RESULTS not in found:
        raise InputError(f"{out}: contains other files ({min(found)}); pass another --out for the demonstration")
    for path in (out / name for name in ("corpus", "run", "task", "text.txt", "valid.txt", REPORT, _RESULTS)):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _next_commands(demo: Demonstration) -> list[str]:
    task = demo.out / "task"
    return [
        f"elmolite evaluate {demo.model} YOUR_TEXT.txt",
        f"elmolite embed {RELEASED} --input YOUR_TEXT.txt --output vectors.npz",
        f"elmolite predict {TAGGER} --input YOUR_TEXT.txt",
        f"elmolite finetune tag --encoder {RELEASED} --train {task / 'train.jsonl'} --out {demo.out}-tagger",
        "elmolite prepare YOUR_TEXT.txt --out corpus   # then elmolite pretrain --corpus corpus --out runs/mine",
    ]


# 1. The released model


def _ask_released_model(demo: Demonstration) -> dict[str, Any]:  # noqa: ARG001
    """Return neighbours and cosines of words in context, and tagged sentences."""
    elmo = ELMo.from_pretrained(RELEASED)
    text = resources.files("elmolite.demo").joinpath(SENTENCES).read_text(encoding="utf-8")
    index = NeighbourIndex(elmo, [elmo.tokenizer.tokens(line) for line in text.splitlines()])
    neighbours = []
    for query in (parse_query(each, elmo) for each in QUERIES):
        found = [{"cosine": cosine, **_json_of(each)} for cosine, each in index.nearest(query, N_NEIGHBOURS)]
        neighbours.append({"query": _json_of(query), "nearest": found})
    compared = [parse_query(each, elmo) for each in COMPARED]
    vectors = elmo.embed([each.sentence for each in compared], layers="top")
    units = [unit(rows[each.index]) for rows, each in zip(vectors, compared, strict=True)]
    tagger = TaskCheckpoint.from_pretrained(TAGGER)
    sentences = [compared[0].sentence, compared[3].sentence]
    tagged = [
        {"tokens": list(sentence), "tags": list(prediction.labels)}
        for sentence, prediction in zip(sentences, tagger.predict(sentences), strict=True)
    ]
    return {
        "neighbours": neighbours,
        "compared": [_json_of(each) for each in compared],
        "cosines": [[float(a @ b) for b in units] for a in units],
        "tagged": tagged,
    }


def _json_of(occurrence: Occurrence) -> dict[str, Any]:
    return {"tokens": list(occurrence.sentence), "index": occurrence.index}


def _describe_released_model(demo: Demonstration) -> str:
    result = demo.results["released"]
    lines = ["Nearest words in context, by cosine of the top layer:"]
    for each in result["neighbours"]:
        lines += ["", f"        {Occurrence(each['query']['tokens'], each['query']['index']).in_context()}"]
        for near in each["nearest"]:
            lines.append(f"  {near['cosine']:.3f} {Occurrence(near['tokens'], near['index']).in_context()}")
    lines += ["", "Cosine of 'play' in pairs of sentences:", ""]
    for first, second in ((0, 1), (2, 3), (0, 2), (1, 3)):
        value = result["cosines"][first][second]
        name = "same sense" if first // 2 == second // 2 else "other sense"
        pair = " / ".join(" ".join(result["compared"][each]["tokens"]) for each in (first, second))
        lines.append(f"  {name:<11} {value:.2f}  {'#' * round(10 * max(value, 0)):<10}  {pair}")
    lines += ["", f"Parts of speech, by the released tagger {TAGGER}:"]
    for each in result["tagged"]:
        words = table([each["tokens"], each["tags"]], n_left=len(each["tokens"]), gap=1)
        lines += [f"  {line}" for line in words.splitlines()]
    return "\n".join(lines)


# 2. The text


def _prepare_text(demo: Demonstration) -> dict[str, Any]:
    """Write the text, the corpus and the examples of the task."""
    out, size = demo.out, demo.size
    modules = []
    with ProgressBar("reading docstrings", unit="modules") as bar:
        for module in docstrings.modules(max_modules=size.max_modules):
            modules.append(module)
            bar.update(1)
    n_words = _write_text(modules, out)
    corpus = prepare(
        str(out / "text.txt"),
        out / "corpus",
        valid=str(out / "valid.txt"),
        vocab_size=size.vocab_size,
        overwrite=True,
        show_progress=False,
    )
    splits = make_splits(modules, SentenceTokenizer.english(), size.task)
    for name, sentences in splits.items():
        lines = [json.dumps({"tokens": each.tokens, "tags": each.tags}) + "\n" for each in sentences]
        files.write_bytes(out / "task" / f"{name}.jsonl", "".join(lines).encode())
    valid = corpus.valid.first_sentences(size.training.valid_tokens)
    return {
        "n_words": n_words,
        "packages": list(dict.fromkeys(module.package for module in modules)),
        "corpus": corpus.describe(),
        "vocabulary_size": len(corpus.vocabulary),
        "unigram": unigram_perplexity(corpus, valid),
        "n_examples": {name: len(sentences) for name, sentences in splits.items()},
    }


def _write_text(modules: Sequence[Module], out: Path) -> int:
    """Write a paragraph per line and a blank line after each document; return the number of words.

    A paragraph of several modules is written once, so that the training text has none of the validation text.
    """
    parts: dict[str, list[str]] = {"text.txt": [], "valid.txt": []}
    for module, paragraphs in docstrings.distinct_paragraphs(modules):
        parts["text.txt" if checksum(module) % _VALID_EVERY else "valid.txt"] += [*paragraphs, ""]
    for name, lines in parts.items():
        files.write_bytes(out / name, "".join(f"{line}\n" for line in lines).encode("utf-8", "ignore"))
    return sum(len(line.split()) for lines in parts.values() for line in lines)


def _describe_text(demo: Demonstration) -> str:
    result = demo.results["text"]
    return f"{result['n_words']:,} words of prose from {', '.join(result['packages'])}\n{result['corpus']}"


# 3. Pretraining


def _explain_perplexity(demo: Demonstration) -> str:
    text = demo.results["text"]
    return (
        "Perplexity: the number of equally likely words between which the model would be as uncertain.\n"
        f"Guessing evenly gives {text['vocabulary_size']:,}, the word frequencies alone (unigram) give "
        f"{text['unigram']:.1f}. Training starts near there,\n"
        "because the output biases are initialised with the word frequencies."
    )


def _pretrain(demo: Demonstration) -> dict[str, Any]:
    size = demo.size
    is_begun = bool(TrainingCheckpoints(demo.run).paths())
    pretrain(size.training, model=size.model, corpus=demo.out / "corpus", out=demo.run, resume=is_begun, loggers=[])
    log = _read_log(demo.run / "log.csv")
    training = [[row["step"], math.exp(row["loss"])] for row in log if "loss" in row]
    validation = [[row["step"], row["valid_average"]] for row in log if "valid_average" in row]
    return {"training": training, "validation": validation}


def _read_log(path: Path) -> list[dict[str, float]]:
    """Return the numbers in each line of the training log."""
    names = ("step", "loss", "valid_average")
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(row[name]) for name in names if row.get(name)} for row in csv.DictReader(file)]


def _describe_pretraining(demo: Demonstration) -> str:
    unigram = demo.results["text"]["unigram"]
    (_, first), *_, (_, last) = demo.results["pretraining"]["validation"]
    return (
        f"\nValidation perplexity {first:.1f} -> {last:.1f}, unigram {unigram:.1f}: {unigram / last:.1f} times lower\n"
        f"model     {demo.model}"
    )


# 4. The task


def _train_task(demo: Demonstration) -> dict[str, Any]:
    """Train on the layers of the pretrained and of the untrained model, with several seeds."""
    folder, size = demo.out / "task", demo.size.task
    paths = {split: folder / f"{split}.jsonl" for split in ("train", "dev", "test")}
    examples = TaskExamples.read("tag", train=paths["train"], dev=paths["dev"], test=paths["test"])
    inputs, head = InputConfig(dropout=0.1), TagConfig(hidden_size=32, dropout=0.2)
    run = FinetuningRun.build(examples, encoder=demo.model, inputs=inputs, head=head)
    runs = {"untrained": replace(run, random_init=True), "pretrained": run}
    config = FinetuningConfig(n_epochs=size.n_epochs, patience=size.n_epochs, learning_rate=0.01)
    with ProgressBar("training taggers", unit="runs", total=len(runs) * size.n_seeds, show=True) as bar:
        comparison = compare(
            runs,
            config,
            out=folder,
            n_seeds=size.n_seeds,
            cache=folder / "layers",
            overwrite=True,
            show_progress=False,
            on_result=lambda name, result: bar.update(1, f"{name}: dev F1 {result.dev.value:.3f}"),
        )
    shutil.rmtree(folder / "layers")
    f1 = {name: [each.test.value for each in results if each.test] for name, results in comparison.results.items()}
    scores = comparison.describe()
    if size.n_seeds > 1:
        n_better = sum(b > a for a, b in zip(f1["untrained"], f1["pretrained"], strict=True))
        scores += f"\n\nThe pretrained model is better with {n_better} of {size.n_seeds} seeds."
    short = [each for each in examples.test or () if len(each.sentences[0]) <= _MAX_SHOWN_TOKENS]
    short = short[:: max(1, len(short) // _N_SHOWN)][:_N_SHOWN]  # of several modules
    trained = TaskCheckpoint.from_pretrained(comparison.results["pretrained"][0].folder, encoder=demo.model)
    predictions = trained.predict([each.sentences[0] for each in short])
    return {
        "f1": f1,
        "scores": scores,
        "predictions": [
            {"model": mark(each.sentences[0], predicted.labels), "author": mark(each.sentences[0], each.labels)}
            for each, predicted in zip(short, predictions, strict=True)
        ],
    }


def _describe_task(demo: Demonstration) -> str:
    result = demo.results["task"]
    lines = [result["scores"], ""]
    lines.append("Test sentences (`back-ticks`: what the pretrained model marks; author: where they differ):")
    for each in result["predictions"]:
        lines.append(f"  {each['model']}")
        if each["author"] != each["model"]:
            lines.append(f"    author: {each['author']}")
    return "\n".join(lines)


def _explain_task(demo: Demonstration) -> str:
    counts = ", ".join(f"{n:,} {name}" for name, n in demo.results["text"]["n_examples"].items())
    return (
        f"Which words did the author of a docstring mark as code? {counts} sentences, without their back-ticks.\n"
        "A tagger is trained on the layers of the pretrained model, and on those of the same model with random weights."
    )


class Step(NamedTuple):
    """A step: its heading, text before it, its result as values for JSON, and the result as text."""

    heading: str
    introduction: Callable[[Demonstration], str]
    compute: Callable[[Demonstration], dict[str, Any]]
    describe: Callable[[Demonstration], str]


STEPS = {
    "released": Step(
        f"{RELEASED}, a model that comes with the package: one word, several senses",
        lambda _: "The vector of a word depends on its sentence.\n",
        _ask_released_model,
        _describe_released_model,
    ),
    "text": Step(
        "elmolite prepare: a corpus from the documentation of Python and of installed packages",
        lambda _: "Reading docstrings, finding sentences and tokens, counting words ...",
        _prepare_text,
        _describe_text,
    ),
    "pretraining": Step(
        "elmolite pretrain: a new model from this corpus", _explain_perplexity, _pretrain, _describe_pretraining
    ),
    "task": Step("elmolite finetune: does pretraining help?", _explain_task, _train_task, _describe_task),
}
