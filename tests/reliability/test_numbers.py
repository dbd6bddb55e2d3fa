"""Non-finite loss, gradients and states: the step is skipped and counted, or the run ends."""

import math
from functools import partial

import pytest
import torch
from helpers.data import make_corpus, random_sentences
from helpers.pretraining import training_checkpoint
from helpers.runs import Run, log_of, said_by, sampled, start

from elmolite.pretraining import distributed
from elmolite.pretraining.module import PretrainingModule

PLACES = ("loss", "gradient", "state")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"), random_sentences(140)).folder


def spoil(place, value, steps):
    """Inject a non-finite value, and check that a skipped step changes no weight."""
    make_loss, backward, optimize = (
        getattr(PretrainingModule, name) for name in ("_loss", "manual_backward", "_optimize")
    )
    at = {"step": -1}

    def spoiled_loss(self, batch, step):
        loss, penalty = make_loss(self, batch, step)
        at["step"] = step
        if step in steps and place == "loss":
            loss = loss * value
        if step in steps and place == "state":
            self._state.backward.cell[0, 1, 2] = value
        return loss, penalty

    def spoiled_backward(self, loss):
        handle = None
        if at["step"] in steps and place == "gradient":  # before the gradients of the ranks are averaged
            weight = self.get_parameter("bilm.token_encoder.projection.bias")
            handle = weight.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(3), value))
        backward(self, loss)
        if handle is not None:
            handle.remove()

    def checked_optimize(self, step, *arguments):
        before = [weight.detach().clone() for weight in self.parameters()]
        result = optimize(self, step, *arguments)
        changed = [not torch.equal(*pair) for pair in zip(before, self.parameters(), strict=True)]
        spoiled_here = step in steps
        assert any(changed) != any(distributed.all_gather_object(spoiled_here)), f"step {step}: {sum(changed)} changed"
        assert all(part.isfinite().all() for direction in self._state for part in direction)
        digest = float(sum(weight.double().sum() for weight in self.parameters()))
        assert len(set(distributed.all_gather_object(digest))) == 1, "the processes differ"
        return result

    PretrainingModule._loss = spoiled_loss
    PretrainingModule.manual_backward = spoiled_backward
    PretrainingModule._optimize = checked_optimize


@pytest.mark.parametrize("n_processes", sampled([1, 2], 2))
@pytest.mark.parametrize("value", sampled([math.nan, math.inf, -math.inf], math.nan))
@pytest.mark.parametrize("place", PLACES)
def test_a_non_finite_step_is_skipped_and_counted_on_all_ranks(tmp_path, corpus, is_full, place, value, n_processes):
    n_steps = 120 if is_full else 24
    spoiled = [step for step in range(n_steps) if step % 5 in (1, 2)]
    run = Run(corpus, {"n_nodes": n_processes, "max_steps": n_steps, "softmax": "sampled", "ema_decay": 0.9})
    arms = [partial(spoil, place, value, spoiled if rank == n_processes - 1 else []) for rank in range(n_processes)]
    assert set(start(run, tmp_path / "run", arms=arms).exit_codes()) == {0}, said_by(tmp_path / "run")
    log = log_of(tmp_path / "run")
    skipped = [int(row["skipped_steps"]) for row in log if row["skipped_steps"]]
    assert skipped == [sum(each <= step for each in spoiled) for step in range(n_steps)]
    assert said_by(tmp_path / "run").count("skipped step") == len(spoiled)
    weights = training_checkpoint(tmp_path / "run")["state_dict"]
    assert all(weight.isfinite().all() for weight in weights.values())


@pytest.mark.parametrize("place", sampled(PLACES, "state"))
def test_too_many_skipped_steps_in_a_row_end_the_run(tmp_path, corpus, place):
    settings = {"max_steps": 40, "log_every_steps": 40}
    run = Run(corpus, settings, patches={"pretraining.checkpointing.SAVE_SECONDS": -1.0})
    steps = list(range(15, 40))
    codes = start(run, tmp_path / "run", arms=[partial(spoil, place, math.nan, steps)]).exit_codes()
    said = said_by(tmp_path / "run")
    assert codes != [0]
    assert "training diverged: non-finite loss, gradient or state in 10 consecutive steps (last: 25;" in said
    assert "gradient norm" in said
    assert all(weight.isfinite().all() for weight in training_checkpoint(tmp_path / "run")["state_dict"].values())
