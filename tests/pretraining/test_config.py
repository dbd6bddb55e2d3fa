import math

import pytest

from elmolite.data.bptt import BPTTBatches
from elmolite.errors import InputError
from elmolite.nn.softmax import SOFTMAXES
from elmolite.pretraining.config import PretrainingConfig


def test_epochs_become_steps(corpus):
    streams = BPTTBatches(corpus, corpus.train, 4, 10, seed=0)
    n = streams.epoch_steps(0)
    assert PretrainingConfig(n_epochs=1).n_steps(streams) == n
    assert PretrainingConfig(n_epochs=2).n_steps(streams) == streams.end_of_epoch(1)
    assert PretrainingConfig(n_epochs=2, accumulate_steps=3).n_steps(streams) == math.ceil(streams.end_of_epoch(1) / 3)
    assert PretrainingConfig(n_epochs=2, accumulate_steps=3, max_steps=2).n_steps(streams) == 2
    assert PretrainingConfig(n_epochs=0.5).n_steps(streams) == math.ceil(n / 2)
    fresh = BPTTBatches(corpus, corpus.train, 4, 10, seed=0)
    assert PretrainingConfig(n_epochs=10**9, max_steps=7).n_steps(fresh) == 7


def test_learning_rate_rises_and_falls():
    rates = [PretrainingConfig(warmup_steps=10, learning_rate=1.0).learning_rate_at(s, 100) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[-1] < 0.001
    short = [PretrainingConfig(warmup_steps=1000, learning_rate=1.0).learning_rate_at(s, 10) for s in range(10)]
    assert max(short) == 1.0
    assert short[-1] < 0.1
    constant = PretrainingConfig(warmup_steps=0, learning_rate=1.0, schedule="constant")
    assert {constant.learning_rate_at(s, 100) for s in (0, 50, 99)} == {1.0}
    assert PretrainingConfig(warmup_steps=0, learning_rate=1.0, schedule="linear").learning_rate_at(25, 100) == 0.75


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be positive, got 0"),
        ({"max_steps": 0}, "max_steps must be positive"),
        ({"n_epochs": math.inf}, "n_epochs must be finite, got inf"),
        ({"activation_regularization": math.nan}, "activation_regularization must be finite, got nan"),
        ({"reset_probability": 2}, "reset_probability must be between 0 and 1, got 2"),
        ({"ema_decay": 1.0}, "ema_decay must be at least 0 and less than 1"),
        ({"patience": -1}, "patience must be at least 0"),
        ({"batch_size": 5, "n_devices": 2}, "batch_size must be a multiple of the 2 processes, got 5"),
        ({"optimizer": "adamw"}, "optimizer must be adam, adagrad or sgd, got 'adamw'; did you mean 'adam'"),
        ({"softmax": "hierarchical"}, "softmax"),
    ],
)
def test_invalid_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        PretrainingConfig(**changes)


def test_deprecated_names_are_accepted():
    with pytest.warns(FutureWarning, match="n_rows is deprecated and will be removed in the next release; use batch_"):
        config = PretrainingConfig(n_rows=2)
    assert config.batch_size == 2
    with pytest.warns(FutureWarning, match="n_rows is deprecated"):
        assert config.n_rows == 2


def test_softmax_follows_the_vocabulary():
    assert PretrainingConfig().softmax_kind(10_000) == "full"
    assert PretrainingConfig().softmax_kind(100_000) == "adaptive"
    assert PretrainingConfig(softmax="sampled").softmax_kind(100) == "full"
    assert PretrainingConfig(softmax="full").softmax_kind(10**6) == "full"
    small, large = (SOFTMAXES["full"](vocabulary_size=n, projection_size=1) for n in (100, 50_000))
    clusters = SOFTMAXES["adaptive"](vocabulary_size=50_000, projection_size=1)
    assert PretrainingConfig(softmax="sampled").negatives_of(small) == 1024
    assert PretrainingConfig().negatives_of(large) == 1024  # from a warm start
    for softmax in (small, clusters):
        assert PretrainingConfig().negatives_of(softmax) is None
    assert PretrainingConfig(softmax="full").negatives_of(large) is None
