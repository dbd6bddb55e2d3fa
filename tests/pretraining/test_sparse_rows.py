import copy

import pytest
import torch
from conftest import small_config
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
from elmolite.pretraining.sparse_rows import row_sparse_update, take_row_gradient
from elmolite.pretraining.trainer import make_trainer
from elmolite.utils.torch import quiet_lightning

N_ROWS, SIZE, STEPS = 30, 4, 50

OPTIMIZERS = {
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.5, initial_accumulator_value=1.0),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.5),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1, fused=True),
}


class Model(nn.Module):
    """A table, its biases, and a weight that every step reads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.bias = nn.Parameter(torch.randn(N_ROWS, SIZE)), nn.Parameter(torch.randn(N_ROWS))
        self.weight = nn.Parameter(torch.randn(SIZE))
        self.double()

    def loss(self, ids, *, sparse):
        rows = F.embedding(ids, self.table, sparse=sparse)
        biases = self.bias.gather(0, ids, sparse_grad=sparse)
        return (rows @ self.weight + biases).tanh().pow(2).sum()


def ids_of(step):
    """Some twice, and never the last row."""
    return torch.randint(0, N_ROWS - 1, (8,), generator=torch.Generator().manual_seed(step))


def take_step(model, optimizer, step, max_norm=1.0):
    """Update rows only; return the norm of the gradient, and the row gradients."""
    model.loss(ids_of(step), sparse=True).backward()
    touched = [take_row_gradient(model.table), take_row_gradient(model.bias)]
    with row_sparse_update(optimizer, touched) as parameters:
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        optimizer.step()
        optimizer.zero_grad()
    return norm, touched


def take_dense_step(model, optimizer, step):
    model.loss(ids_of(step), sparse=False).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return norm


@pytest.mark.parametrize("name", ["adagrad", "sgd"])
def test_adagrad_and_sgd_train_as_on_the_whole_table(name):
    ours, theirs = Model(), Model()
    optimizers = [OPTIMIZERS[name](model.parameters()) for model in (ours, theirs)]
    for step in range(STEPS):
        norm, _ = take_step(ours, optimizers[0], step)
        torch.testing.assert_close(norm, take_dense_step(theirs, optimizers[1], step))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)
        for key, part in optimizers[1].state.get(other, {}).items():
            torch.testing.assert_close(optimizers[0].state[mine][key], part, rtol=0, atol=1e-10)


def test_adam_is_that_of_sparse_gradients():
    ours, theirs = Model(), Model()
    options = {"lr": 0.1, "eps": 1e-30}  # which SparseAdam adds at another place
    optimizer = torch.optim.Adam(ours.parameters(), fused=True, **options)
    lazy = torch.optim.SparseAdam([theirs.table, theirs.bias], **options)
    dense = torch.optim.Adam([theirs.weight], **options)
    for step in range(STEPS):
        take_step(ours, optimizer, step, max_norm=1e9)
        theirs.loss(ids_of(step), sparse=True).backward()
        for each in (lazy, dense):
            each.step()
            each.zero_grad()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_that_is_not_touched_stays_bit_for_bit(name):
    model = Model()
    optimizer = OPTIMIZERS[name](model.parameters())
    take_step(model, optimizer, 0)
    tables = [model.table, *(part for part in optimizer.state.get(model.table, {}).values() if part.dim())]
    before = [part.detach().clone() for part in tables]
    _, (touched, _) = take_step(model, optimizer, 1)
    assert touched.rows.tolist() == sorted(set(ids_of(1).tolist()))
    assert touched.gradient.shape == (len(touched.rows), SIZE)
    for part, was in zip(tables, before, strict=True):
        changed = (part != was).any(dim=1).nonzero().squeeze(1).tolist()
        assert set() < set(changed) <= set(touched.rows.tolist())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_from_its_state(name):
    models = Model(), Model()
    optimizers = [OPTIMIZERS[name](model.parameters()) for model in models]
    for step in range(3):
        take_step(models[0], optimizers[0], step)
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for model, optimizer in zip(models, optimizers, strict=True):
        take_step(model, optimizer, 3)
        assert [id(each) for each in optimizer.param_groups[0]["params"]] == [id(each) for each in model.parameters()]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that an operation creates."""

    def __init__(self, given):
        super().__init__()
        self.given = {part.untyped_storage().data_ptr() for part in given}
        self.n_numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for part in tree_leaves(result):
            if isinstance(part, torch.Tensor):
                part = part._values() if part.is_sparse else part
                if part.untyped_storage().data_ptr() not in self.given:
                    self.n_numbers = max(self.n_numbers, part.numel())
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
        states = self.optimizers().state.values()
        given = [*self.parameters(), *(part for state in states for part in state.values())]
        if self.ema is not None:
            given += [part for part in tree_leaves(self.ema.state_dict()) if isinstance(part, torch.Tensor)]
        with Largest(given) as mode:
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
