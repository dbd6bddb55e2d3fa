"""A toy entry in each table of extension points, used as a user would."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.models import small_config
from helpers.small_tasks import sentences_of, write_classes
from torch import nn

from elmolite import BiLM, Checkpoint, ELMo, TaskCheckpoint
from elmolite.cli.main import main
from elmolite.data.indexers import INDEXERS, ByteIndexer
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.formats import loading
from elmolite.formats.source import EarlierModel
from elmolite.nn.bilm import TOKEN_ENCODERS
from elmolite.nn.char_cnn import ACTIVATIONS
from elmolite.nn.config import KINDS
from elmolite.nn.recurrent import CELLS, RNNLayer
from elmolite.nn.softmax import SOFTMAXES, FullSoftmax
from elmolite.tasks.config import HEAD_CONFIGS, ClassifyConfig, HeadConfig
from elmolite.tasks.heads import HEADS
from elmolite.tasks.metrics import TaskScores, label_report
from elmolite.tasks.objectives import Objective
from elmolite.tasks.specs import TASKS, TaskSpec

SIZES = ["--preset=tiny", "--max-steps=2", "--n-validations=1", "--model.cell-size=16", "--model.projection-size=8"]


def run(*words):
    assert main([str(word) for word in words]) == 0


def test_the_names_that_are_checked_without_torch_are_those_of_the_tables():
    tables = {"input": TOKEN_ENCODERS, "activation": ACTIVATIONS, "cell": CELLS}
    assert {name: tuple(table) for name, table in tables.items()} == KINDS
    assert tuple(SOFTMAXES) == ("full", "adaptive")  # as in PretrainingConfig


def test_a_cell(tmp_path, corpus, monkeypatch):
    class ReLULayer(RNNLayer):
        def __init__(self, *, input_size, cell_size, projection_size):
            super().__init__(input_size=input_size, cell_size=cell_size, projection_size=projection_size)
            self.rnn = nn.RNN(input_size, cell_size, nonlinearity="relu")

    monkeypatch.setitem(CELLS, "relu", ReLULayer)
    run("pretrain", "--corpus", corpus.folder, "--out", tmp_path / "run", *SIZES, "--model.cell", "relu")
    elmo = ELMo.from_pretrained(tmp_path / "run" / "model")
    assert elmo.embed([["ban"]])[0].shape == (3, 1, 16)
    assert any(isinstance(module, ReLULayer) for module in elmo.modules())


def test_a_softmax(tmp_path, corpus, monkeypatch):
    class BiasedSoftmax(FullSoftmax):
        kind = "biased"

    monkeypatch.setitem(SOFTMAXES, "biased", BiasedSoftmax)
    run("pretrain", "--corpus", corpus.folder, "--out", tmp_path / "run", *SIZES, "--softmax", "biased")
    assert isinstance(Checkpoint.from_pretrained(tmp_path / "run" / "model").softmax, BiasedSoftmax)


def test_an_indexer(tmp_path, corpus, monkeypatch):
    class LowercaseIndexer(ByteIndexer):
        kind = "lowercase"

        def rows(self, tokens):
            return super().rows([token.lower() for token in tokens])

    monkeypatch.setitem(INDEXERS, "lowercase", LowercaseIndexer)
    torch.manual_seed(1)
    bilm = BiLM(small_config(), **LowercaseIndexer().sizes())
    Checkpoint(bilm, corpus.tokenizer, LowercaseIndexer()).save_pretrained(tmp_path / "model")
    upper, lower = ELMo.from_pretrained(tmp_path / "model").embed([["BAN"], ["ban"]])
    np.testing.assert_array_equal(upper, lower)


def test_an_earlier_format(tmp_path, monkeypatch):
    def load(source):
        torch.manual_seed(int(source.read("seed.toy")))
        indexer = ByteIndexer()
        return EarlierModel(BiLM(small_config(), **indexer.sizes()).eval(), SentenceTokenizer.whitespace(), indexer)

    toy = SimpleNamespace(matches=lambda source: "seed.toy" in source.names, load=load)
    monkeypatch.setattr(loading, "FORMATS", {"toy": toy, **loading.FORMATS})
    (tmp_path / "seed.toy").write_text("7")
    assert ELMo.from_pretrained(tmp_path).embed([["ban"]])[0].shape == (3, 1, 24)


class FirstToken(nn.Module):
    """Sentence classifier that reads the first token."""

    def __init__(self, input_size, n_labels, *, output_vectors_size=0):
        super().__init__()
        self.linear = nn.Linear(input_size, n_labels)

    def forward(self, tokens):
        return self.linear(tokens.vectors[:, 0])


@pytest.mark.usefixtures("own_cache", "no_pictures")
def test_a_head(tmp_path, model_folder, monkeypatch):
    @dataclasses.dataclass
    class Config(ClassifyConfig):
        kind: str = "first"  # the choices of the other kinds were made when the table was imported

    monkeypatch.setitem(HEADS["classify"], "first", FirstToken)
    monkeypatch.setitem(HEAD_CONFIGS, "classify", Config)
    files = ["--train", write_classes(tmp_path / "a.txt"), "--n-epochs=1"]
    run("finetune", "classify", "--encoder", model_folder, "--out", tmp_path / "run", *files)
    assert isinstance(TaskCheckpoint.from_pretrained(tmp_path / "run").model.head, FirstToken)


@dataclasses.dataclass
class RegressConfig(HeadConfig):
    """Settings of regression heads."""

    summary = "a number for each sentence"
    kind: str = "linear"


class Regression(Objective):
    """A number for each sentence, by least squares."""

    def targets(self, labels):
        return torch.tensor([float(each[0]) for each in labels])

    def loss(self, scores, targets, mask):
        return (scores.mean(dim=1) - targets).square().mean()

    def decode(self, scores, mask):
        return [(f"{score:.1f}",) for score in scores.mean(dim=1).tolist()]

    def probabilities(self, scores, mask):
        return [np.ones(len(self.labels), np.float32)] * len(scores)


def score_numbers(description, gold, predicted):
    errors = [abs(float(a[0]) - float(b[0])) for a, b in zip(gold, predicted, strict=True)]
    report = label_report([each[0] for each in gold], [each[0] for each in predicted])
    return TaskScores("negative error", -float(np.mean(errors)), report, spans=None, confusion=None)


REGRESSION = TaskSpec(
    sentences=("text",),
    label_kind="single",
    heads=TASKS["classify"].heads,
    probe=RegressConfig(),
    objective=lambda description: Regression(description.labels),
    score=score_numbers,
    text_columns=((("text",),),),
    label_columns=(("score",),),
)


@pytest.mark.usefixtures("own_cache", "no_pictures")
def test_a_task(tmp_path, model_folder, monkeypatch, capsys):
    monkeypatch.setitem(TASKS, "regress", REGRESSION)
    monkeypatch.setitem(HEAD_CONFIGS, "regress", RegressConfig)
    values = {"ba": 1.5, "ki": -0.5}
    rows = [f"{' '.join(words)}\t{values[onset]}" for onset in values for words in sentences_of(onset, 12)]
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(["text\tscore", *rows]) + "\n", encoding="utf-8")
    options = ["--train", path, "--dev", path, "--n-epochs=20", "--learning-rate=0.03", "--input.dropout=0"]
    run("finetune", "regress", "--encoder", model_folder, "--out", tmp_path / "run", *options)
    assert TaskCheckpoint.from_pretrained(tmp_path / "run").description.head == RegressConfig()
    capsys.readouterr()
    run("test", tmp_path / "run", path, "--json")
    assert json.loads(capsys.readouterr().out)["value"] > -0.3
    run("predict", tmp_path / "run", "--input", path)
    assert [json.loads(line)["gold"] for line in capsys.readouterr().out.splitlines()[::12]] == ["1.5", "-0.5"]
