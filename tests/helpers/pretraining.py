"""Short pretraining runs in this process."""

import contextlib
import csv
from unittest import mock

import torch
from helpers.models import small_config

from elmolite.pretraining.checkpointing import TrainingCheckpoints, load_checkpoint
from elmolite.pretraining.config import PretrainingConfig
from elmolite.pretraining.module import PretrainingModule
from elmolite.pretraining.trainer import pretrain


class DiedError(Exception):
    """Ends a run in the middle."""


def make_config(**changes):
    fields = {"batch_size": 4, "bptt_length": 10, "warmup_steps": 3, "learning_rate": 0.01, "n_validations": 3}
    return PretrainingConfig(**{**fields, "log_every_steps": 1, "max_steps": 12, **changes})


def train(corpus, out, *, model=None, init_from=None, resume=False, keep_last=2, callbacks=(), loggers=(), **changes):
    return pretrain(
        make_config(**changes),
        model=model or small_config(),
        corpus=corpus.folder,
        out=out,
        init_from=init_from,
        resume=resume,
        keep_last=keep_last,
        show_progress=False,
        callbacks=callbacks,
        loggers=loggers,
    )


@contextlib.contextmanager
def before_step(at, action):
    """Call a function with the module before a training step."""
    step = PretrainingModule.training_step

    def training_step(self, batch, index):
        if index == at:
            action(self)
        return step(self, batch, index)

    with mock.patch.object(PretrainingModule, "training_step", training_step):
        yield


def die(_):
    raise DiedError


def training_checkpoint(out):
    """Return the latest training checkpoint of a run."""
    return load_checkpoint(TrainingCheckpoints(out).paths()[0])


def read_log(out):
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def validations(out):
    return [(int(row["step"]), float(row["valid_average"])) for row in read_log(out) if row["valid_average"]]


def weights_of(out):
    return training_checkpoint(out)["state_dict"]


def assert_same_run(whole, parts):
    """Compare weights and logs, apart from times, bit for bit."""
    expected, found = weights_of(whole), weights_of(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    names = ("step", "loss", "learning_rate", "gradient_norm", "valid_average")
    logs = [[[row[name] for name in names] for row in read_log(out)] for out in (whole, parts)]
    assert logs[0] == logs[1]
