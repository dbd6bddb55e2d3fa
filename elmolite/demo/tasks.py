"""The demonstration's three tasks, trained on the layers of its model and of the same model untrained.

Shapes: B sentences, T tokens, D width of a vector, K labels.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.demo.docstrings import Module
from elmolite.demo.examples import Amounts, code_examples, package_examples, pair_examples, tags_by_rule
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.compare import Comparison, compare
from elmolite.tasks.config import FinetuningConfig, InputConfig
from elmolite.tasks.data import TaskData, predict
from elmolite.tasks.examples.records import Example
from elmolite.tasks.finetune import layer_names
from elmolite.tasks.heads import ClassifyConfig, HeadConfig, HeadFactory, TagConfig, TokenFeatures, masked_softmax
from elmolite.tasks.metrics import span_report
from elmolite.tasks.objectives import Prediction
from elmolite.tasks.setup import FinetuningRun, TaskExamples
from elmolite.tasks.spans import spans
from elmolite.utils import files
from elmolite.utils.console import table

PRETRAINED, UNTRAINED = "pretrained", "untrained"
N_SHOWN = 3
"""Predictions of each task that a person sees ..."""
MAX_SHOWN_TOKENS = 16
"""... of sentences that fit a line."""


class Recurrence(nn.Module):
    """Scores of a pair, from how much of each sentence comes again in the other.

    Of each word it takes the cosine with the nearest word of the other sentence, and then a mean over the words, whose
    weights it learns: it says little that "the" comes again.
    """

    def __init__(self, input_size: int, n_labels: int, *, n_features: int = 32) -> None:
        """Initialise.

        :param input_size: D.
        :param n_features: numbers that are made of the cosine.
        """
        super().__init__()
        self.scale = nn.Parameter(torch.ones(input_size))
        self.weight = nn.Linear(input_size, 1)
        self.of_cosine = nn.Sequential(nn.Linear(1, n_features), nn.Tanh())
        self.norm = nn.BatchNorm1d(2 * n_features, affine=False)  # means of many cosines hardly differ
        self.linear = nn.Linear(2 * n_features, n_labels)

    def forward(self, first: TokenFeatures, second: TokenFeatures) -> Tensor:
        """Return the scores (B, K)."""
        a, b = (F.normalize(words.vectors * self.scale, dim=2) for words in (first, second))
        cosines = a @ b.transpose(1, 2)  # (B, T, S)
        means = [self._mean(cosines, first, second), self._mean(cosines.transpose(1, 2), second, first)]
        return self.linear(self.norm(torch.cat(means, dim=1)))  # type: ignore[no-any-return]

    def _mean(self, cosines: Tensor, words: TokenFeatures, others: TokenFeatures) -> Tensor:
        best = cosines.masked_fill(~others.mask.unsqueeze(1), -1.0).amax(dim=2)  # (B, T)
        weights = masked_softmax(self.weight(words.vectors).squeeze(2), words.mask)
        return torch.bmm(weights.unsqueeze(1), self.of_cosine(best.unsqueeze(2))).squeeze(1)


@dataclass(frozen=True)
class DemoTask:
    """A task, its head and how that learns."""

    name: str
    question: str
    examples: Callable[[Iterable[Module], SentenceTokenizer, Amounts], TaskExamples]
    head: HeadConfig | HeadFactory
    learning_rate: float
    batch_size: int
    dropout: float


PACKAGE_HEAD = ClassifyConfig(pooling="attention", hidden_size=48, dropout=0.2)
CODE_HEAD = TagConfig(hidden_size=32, dropout=0.2)
TASKS = (
    DemoTask("package", "from which package is this summary line?", package_examples, PACKAGE_HEAD, 0.002, 32, 0.1),
    DemoTask("code", "which words did the author mark as code?", code_examples, CODE_HEAD, 0.003, 32, 0.1),
    DemoTask("pair", "are both sentences about the same function?", pair_examples, Recurrence, 0.001, 16, 0.0),
)


def run(
    modules: Sequence[Module], model: Path, tokenizer: SentenceTokenizer, out: Path, *, amounts: Amounts, n_epochs: int
) -> None:
    """Train the tasks, and print what came of them and what they predict.

    :param model: the folder of the language model.
    :param out: gets a folder for each task: its examples, and a folder for each run.
    """
    rows = [["", "train / test", "measure", "no model", UNTRAINED, PRETRAINED]]
    weights = []
    cache = out / "layers"
    for task in TASKS:
        examples = task.examples(modules, tokenizer, amounts)
        write_examples(examples, out / task.name)
        comparison = _train(task, examples, model, out / task.name, cache=cache, n_epochs=n_epochs)
        print(f"\n{task.name}: {task.question}")
        result = comparison.results[PRETRAINED][0]
        head = task.head if callable(task.head) else None
        trained = TaskCheckpoint.from_pretrained(result.folder, head=head, encoder=model)
        _print_predictions(trained, examples)
        rows.append(_row(task, examples, comparison))
        weights.append([task.name, *(f"{weight:.2f}" for weight in result.mixes["input"].weights)])
    shutil.rmtree(cache)
    print(f"\n{table(rows)}\n")
    print(table([["weights", *layer_names(len(weights[0]) - 1)], *weights]))


def _train(task: DemoTask, examples: TaskExamples, model: Path, out: Path, *, cache: Path, n_epochs: int) -> Comparison:
    config = FinetuningConfig(
        n_epochs=n_epochs, patience=n_epochs, batch_size=task.batch_size, learning_rate=task.learning_rate
    )
    setup = FinetuningRun.build(examples, encoder=model, inputs=InputConfig(dropout=task.dropout), head=task.head)
    ways = {UNTRAINED: replace(setup, random_init=True), PRETRAINED: setup}
    return compare(ways, config, out=out, cache=cache, overwrite=True, show_progress=False)


def write_examples(examples: TaskExamples, folder: Path) -> None:
    """Write the parts as JSON lines, which ``elmolite finetune`` reads."""
    for name, part in (("train", examples.train), ("dev", examples.dev), ("test", examples.test or [])):
        lines = [json.dumps(_record(each, examples.task), ensure_ascii=False) + "\n" for each in part]
        files.write_bytes(folder / f"{name}.jsonl", "".join(lines).encode())


def _record(example: Example, task: str) -> dict[str, Any]:
    if task == "tag":
        return {"tokens": example.sentences[0], "tags": example.labels}
    names = ("sentence1", "sentence2") if task == "entail" else ("tokens",)
    return {**dict(zip(names, example.sentences, strict=True)), "label": example.labels[0]}


def _row(task: DemoTask, examples: TaskExamples, comparison: Comparison) -> list[str]:
    test = examples.test or []
    scores = [comparison.results[name][0].test for name in (UNTRAINED, PRETRAINED)]
    n_examples = f"{len(examples.train):,} / {len(test):,}"
    values = [f"{each.value:.3f}" for each in scores if each is not None]
    return [task.name, n_examples, scores[0].name if scores[0] else "", f"{_without_model(examples):.3f}", *values]


def _without_model(examples: TaskExamples) -> float:
    """Return what the most frequent label is worth; of tags, what the rule for them is."""
    test = examples.test or []
    if examples.task == "tag":
        by_rule = [tags_by_rule(each.sentences[0]) for each in test]
        return span_report([each.labels for each in test], by_rule).micro.f1
    label = Counter(each.labels for each in examples.train).most_common(1)[0][0]
    return sum(each.labels == label for each in test) / len(test)


def _print_predictions(trained: TaskCheckpoint, examples: TaskExamples) -> None:
    """Print what the first short test examples are taken for."""
    short = [each for each in examples.test or [] if max(map(len, each.sentences)) <= MAX_SHOWN_TOKENS][:N_SHOWN]
    predictions = predict(trained.model, TaskData(short, trained.model, trained.tokenizer))
    for example, prediction in zip(short, predictions, strict=True):
        if examples.task == "tag":
            print(f"  {marked(example.sentences[0], prediction.labels)}")
            if prediction.labels != example.labels:
                print(f"    author: {marked(example.sentences[0], example.labels)}")
        else:
            text = "  |  ".join(" ".join(sentence) for sentence in example.sentences)
            print(f"  {text}\n    {_verdict(prediction, example)}")


def _verdict(prediction: Prediction, example: Example) -> str:
    said = f"{prediction.labels[0]} ({prediction.probabilities.max():.2f})"
    return said if prediction.labels == example.labels else f"{said}; right is {example.labels[0]}"


def marked(tokens: Sequence[str], tags: Sequence[str]) -> str:
    """Return the words of a sentence, spans of code between back-ticks."""
    words = list(tokens)
    for span in spans(tags):
        words[span.first] = f"`{words[span.first]}"
        words[span.end - 1] += "`"
    return " ".join(words)
