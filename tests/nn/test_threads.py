import os
import threading
from functools import partial

import pytest
import torch
from helpers.models import make_bilm, small_config

from elmolite.nn import char_cnn
from elmolite.nn.lstm import autograd, inference
from elmolite.nn.threads import in_threads, one_thread


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_functions_run_at_the_same_time_with_their_share_of_the_threads(four_threads):
    together = threading.Barrier(2, timeout=20)

    def number_of(index):
        together.wait()
        return index, torch.get_num_threads()

    assert in_threads([partial(number_of, index) for index in range(2)]) == [(0, 2), (1, 2)]
    assert torch.get_num_threads() == 4
    assert in_threads([partial(int, index) for index in range(9)]) == list(range(9))
    with one_thread():
        assert in_threads([torch.get_num_threads]) == [1]
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("has_gradients", [False, True])
def test_functions_have_the_modes_of_the_caller(four_threads, has_gradients):
    def modes():
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_autocast_dtype("cpu")

    with torch.inference_mode(not has_gradients), torch.autocast("cpu", torch.bfloat16):
        assert in_threads([modes] * 2) == [modes()] * 2


def test_an_error_of_a_thread_is_raised(four_threads):
    def fail():
        raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        in_threads([int, fail, int, fail])
    assert torch.get_num_threads() == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(four_threads):
    in_threads([int] * 4)
    if not (child := os.fork()):
        torch.set_num_threads(2)
        os._exit(in_threads([int] * 2) != [0, 0])
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("is_trained", [False, True])
def test_directions_in_threads_compute_the_same(four_threads, monkeypatch, is_trained):
    """Vectors, states and, in training, gradients."""
    monkeypatch.setattr(char_cnn, "WORDS_AT_ONCE", 2)
    torch.manual_seed(0)
    words, tokens = torch.randint(0, 256, (7, 9)), torch.randint(0, 7, (12,))
    found = []
    for size in (1, 1 << 30):  # apart, jointly
        monkeypatch.setattr(inference, "JOINT_DIRECTIONS_SIZE", size)
        monkeypatch.setattr(autograd, "JOINT_TRAINING_SIZE", size)
        bilm = make_bilm(small_config(), seed=1).eval().requires_grad_(is_trained)
        forward, backward, state = bilm(words, tokens, tokens.flip(0), [5, 5, 2], bilm.zero_state(5))
        found.append([*forward, *backward, *state.forward, *state.backward])
        if is_trained:
            sum(part.square().sum() for part in found[-1]).backward()
            found[-1] += [parameter.grad for parameter in bilm.parameters()]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
