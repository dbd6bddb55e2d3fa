import pytest
import torch
from helpers.models import small_config
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from elmolite.nn.char_cnn import WordEncoder
from elmolite.nn.softmax import FullSoftmax
from elmolite.pretraining.checkpointing import TrainingCheckpoints
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.module import PretrainingData, PretrainingModule
from elmolite.pretraining.setup import PretrainingRun
from elmolite.pretraining.sparse_rows import row_sparse_update, take_row_gradients
from elmolite.pretraining.trainer import make_trainer
from elmolite.utils.torch import quiet_lightning

N_ROWS, SIZE = 30, 4


class Model(nn.Module):
    """A table, its biases, and a weight that every step reads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.bias = nn.Parameter(torch.randn(N_ROWS, SIZE)), nn.Parameter(torch.randn(N_ROWS))
        self.weight = nn.Parameter(torch.randn(SIZE))
        self.double()

    def loss(self, ids):
        rows = F.embedding(ids, self.table, sparse=True)
        biases = self.bias.gather(0, ids, sparse_grad=True)
        return (rows @ self.weight + biases).tanh().pow(2).sum()


def test_adam_is_that_of_sparse_gradients():
    ours, theirs = Model(), Model()
    options = {"lr": 0.1, "eps": 1e-30}  # which SparseAdam adds at another place
    optimizer = torch.optim.Adam(ours.parameters(), fused=True, **options)
    lazy = torch.optim.SparseAdam([theirs.table, theirs.bias], **options)
    dense = torch.optim.Adam([theirs.weight], **options)
    for step in range(50):
        ids = torch.randint(0, N_ROWS - 1, (8,), generator=torch.Generator().manual_seed(step))
        ours.loss(ids).backward()
        touched = take_row_gradients([ours.table, ours.bias])
        assert touched[0].rows.tolist() == sorted(set(ids.tolist()))
        with row_sparse_update(optimizer, touched):
            optimizer.step()
            optimizer.zero_grad()
        theirs.loss(ids).backward()
        for each in (lazy, dense):
            each.step()
            each.zero_grad()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)
    assert torch.equal(ours.table[-1], Model().table[-1])  # in no batch


def storages(tree):
    """Return the size of each tensor by the address of its storage."""
    parts = (part._values() if part.is_sparse else part for part in tree_leaves(tree) if isinstance(part, torch.Tensor))
    return {part.untyped_storage().data_ptr(): part.numel() for part in parts}


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that an operation creates."""

    n_numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        given = storages((arguments, keywords))
        sizes = [size for address, size in storages(result).items() if address not in given]
        self.n_numbers = max([self.n_numbers, *sizes])
        return result


def largest_of_a_step(corpus, folder, monkeypatch, vocabulary_size, **changes):
    """Return the size of the largest tensor that the second step creates, EMA included."""
    config = PretrainingConfig(batch_size=4, bptt_length=10, max_steps=2, softmax="sampled", n_negatives=50, **changes)
    monkeypatch.setattr("elmolite.pretraining.module.LARGE_VOCABULARY", 0)
    setup = PretrainingRun.build(config, model=small_config(input="words"), corpus=corpus.folder)
    setup.valid = None
    setup.model.bilm.token_encoder = WordEncoder(n_ids=vocabulary_size, projection_size=12)
    softmax = FullSoftmax(vocabulary_size=vocabulary_size, projection_size=12)
    module = PretrainingModule(setup.model.bilm, softmax, config, setup.n_steps)
    step, largest = PretrainingModule.training_step, []

    def watched_step(self, batch, index):
        with Largest() as mode:
            result = step(self, batch, index)
        largest.append(mode.n_numbers)
        return result

    monkeypatch.setattr(PretrainingModule, "training_step", watched_step)
    with quiet_lightning():
        make_trainer(setup, TrainingCheckpoints(folder), loggers=[], callbacks=[]).fit(module, PretrainingData(setup))
    return largest[1]


@pytest.mark.parametrize("changes", [{"optimizer": "adagrad"}, {"optimizer": "sgd"}, {"ema_decay": 0.9}])
def test_nothing_in_a_step_grows_with_the_vocabulary(corpus, tmp_path, monkeypatch, changes):
    small, large = (
        largest_of_a_step(corpus, tmp_path, monkeypatch, vocabulary_size, **changes)
        for vocabulary_size in (1_000, 100_000)
    )
    assert small == large < 10_000
