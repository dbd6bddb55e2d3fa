"""A toy entry in each table of extension points, used as a user would."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import small_config
from small_tasks import write_classes
from torch import nn

from elmolite import BiLM, Checkpoint, ELMo, TaskCheckpoint
from elmolite.cli.commands import COMMANDS
from elmolite.cli.main import main
from elmolite.data.indexers import INDEXERS, ByteIndexer
from elmolite.nn.recurrent import CELLS, RNNLayer
from elmolite.nn.softmax import SOFTMAXES, FullSoftmax
from elmolite.tasks.heads import HEADS, ClassifyConfig
from elmolite.tasks.specs import TASKS

SIZES = ["--preset=tiny", "--max-steps=2", "--n-validations=1", "--model.cell-size=16", "--model.projection-size=8"]


def run(*words):
    assert main([str(word) for word in words]) == 0


def test_a_command(monkeypatch, capsys):
    def greet(name: str, *, loudly: bool = False) -> None:
        """Greet someone.

        :param name: who
        """
        print(f"hello {name}" + "!" * loudly)

    monkeypatch.setitem(COMMANDS, "greet", greet)
    run("greet", "ELMo", "--loudly")
    assert capsys.readouterr().out == "hello ELMo!\n"


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
    monkeypatch.setitem(TASKS, "classify", dataclasses.replace(TASKS["classify"], config=Config))
    files = ["--train", write_classes(tmp_path / "a.txt"), "--n-epochs=1"]
    run("finetune", "classify", "--encoder", model_folder, "--out", tmp_path / "run", *files)
    assert isinstance(TaskCheckpoint.from_pretrained(tmp_path / "run").model.head, FirstToken)


@pytest.mark.usefixtures("own_cache", "no_pictures")
def test_a_task(tmp_path, model_folder, monkeypatch, capsys):
    polarity = dataclasses.replace(TASKS["classify"], summary="positive or negative", label_kind="single")
    monkeypatch.setitem(TASKS, "polarity", polarity)
    path = write_classes(tmp_path / "a.txt")
    run("finetune", "polarity", "--encoder", model_folder, "--train", path, "--out", tmp_path / "run", "--n-epochs=1")
    run("test", tmp_path / "run", path)
    assert "accuracy" in capsys.readouterr().out
