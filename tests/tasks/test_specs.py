"""An extension of each kind: a head is a class and a line, a task is a TaskSpec and a line."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from elmolite.cli.finetune_options import parse
from helpers.small_tasks import config, sentences_of, write_classes
from torch import nn

from elmolite import TokenFeatures
from elmolite.tasks import specs
from elmolite.tasks.checkpoint import TaskCheckpoint
from elmolite.tasks.config import InputConfig
from elmolite.tasks.finetune import finetune
from elmolite.tasks.heads import ClassifyConfig, HeadConfig, LinearClassifier, masked_mean
from elmolite.tasks.metrics import TaskScores, label_report
from elmolite.tasks.objectives import Objective
from elmolite.tasks.predict import predict_file
from elmolite.tasks.specs import TASKS, TaskSpec

pytestmark = pytest.mark.usefixtures("no_pictures", "own_cache")


class MeanRegressor(nn.Module):
    """A linear layer on the mean."""

    def __init__(self, input_size: int, n_labels: int, *, output_vectors_size: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.linear = nn.Linear(input_size + output_vectors_size, 1)

    def forward(self, features: TokenFeatures) -> torch.Tensor:
        return self.scale * self.linear(masked_mean(features.vectors, features.mask))


@dataclass
class RegressConfig(HeadConfig):
    """Settings of regression heads."""

    kind: str = "mean"
    scale: float = 2.0


class Regression(Objective):
    """A number for each sentence, by least squares."""

    def targets(self, labels):
        return torch.tensor([float(each[0]) if each else math.nan for each in labels])

    def loss(self, scores, targets, mask):
        return (scores[:, 0] - targets).square().mean()

    def decode(self, scores, mask):
        return [(f"{score:.1f}",) for score in scores[:, 0].tolist()]

    def probabilities(self, scores, mask):
        return [np.ones(len(self.labels), np.float32)] * len(scores)

    def score_shape(self, mask):
        return (len(mask), 1)


def score_numbers(gold, predicted):
    errors = [abs(float(a[0]) - float(b[0])) for a, b in zip(gold, predicted, strict=True)]
    report = label_report([each[0] for each in gold], [each[0] for each in predicted])
    return TaskScores("negative error", -sum(errors) / len(errors), report, spans=None, confusion=None)


REGRESSION = TaskSpec(
    summary="a number for each sentence",
    sentences=("text",),
    label_kind="single",
    config=RegressConfig,
    heads={"mean": MeanRegressor},
    probe=RegressConfig(),
    objective=lambda description: Regression(description.labels),
    scorer=lambda description: score_numbers,
    text_columns=((("text",),),),
    label_columns=(("score",),),
)


def test_a_new_task_is_one_entry(tmp_path, model_folder, monkeypatch):
    monkeypatch.setitem(TASKS, "regress", REGRESSION)
    lines = ["text\tscore"]
    for onset, value in (("ba", "1.5"), ("ki", "-0.5")):
        lines += [f"{' '.join(words)}\t{value}" for words in sentences_of(onset, 12)]
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(lines) + "\n")
    options = parse(["regress", "--encoder=e", f"--train={path}", "--out=o", "--head.scale=3"])
    assert options.head == RegressConfig(scale=3.0)
    result = finetune(
        "regress", encoder=model_folder, train=path, dev=path, out=tmp_path / "run", head=RegressConfig(),
        config=config(n_epochs=20), inputs=InputConfig(dropout=0.0), cache=False,
    )  # fmt: skip
    assert result.dev.value > -0.2
    assert TaskCheckpoint.from_pretrained(result.folder).description.head == RegressConfig()
    found = list(predict_file(result.folder, path))
    assert [record["gold"] for record in found[::12]] == ["1.5", "-0.5"]


def test_a_new_head_is_one_entry(tmp_path, model_folder, monkeypatch):
    class ScaledClassifier(LinearClassifier):
        """Takes the settings that its constructor names."""

    spec = replace(TASKS["classify"], heads={**TASKS["classify"].heads, "linear": ScaledClassifier})
    monkeypatch.setitem(specs.TASKS, "classify", spec)
    path, head = write_classes(tmp_path / "a.txt"), ClassifyConfig(kind="linear", pooling="mean")
    result = finetune(
        "classify",
        encoder=model_folder,
        train=path,
        dev=path,
        out=tmp_path / "run",
        head=head,
        config=config(n_epochs=1),
    )
    assert type(TaskCheckpoint.from_pretrained(result.folder).model.head) is ScaledClassifier
