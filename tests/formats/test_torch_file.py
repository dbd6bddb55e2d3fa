import io
import pickle
from collections import OrderedDict

import pytest
import torch

from elmolite.formats.torch_file import TorchFile


def saved(content, *, is_zip):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def tensors(dtype):
    base = torch.arange(24, dtype=dtype)
    return OrderedDict(
        matrix=torch.randn(3, 5).to(dtype),
        scalar=torch.tensor(2.5, dtype=dtype),
        empty=torch.empty(0, 4, dtype=dtype),
        whole=base.view(2, 3, 4),
        part=base[8:16].view(2, 4),
        one_row=base[20:].view(1, 4),
        parameter=torch.nn.Parameter(torch.randn(7).to(dtype)).detach(),
    )


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_are_those_that_torch_reads(dtype, is_zip):
    content = saved(tensors(dtype), is_zip=is_zip)
    expected = torch.load(io.BytesIO(content), weights_only=True)
    file = TorchFile(content)
    assert list(file.views) == list(expected)
    for name, tensor in expected.items():
        found = file.read(name)
        assert found.dtype == tensor.dtype
        assert found.shape == tensor.shape
        assert torch.equal(found, tensor)


@pytest.mark.parametrize("is_zip", [True, False])
def test_the_state_of_a_module_is_read(is_zip):
    module = torch.nn.LSTM(4, 5, num_layers=2, bidirectional=True)  # its state has metadata, as an attribute
    file = TorchFile(saved(module.state_dict(), is_zip=is_zip))
    for name, tensor in module.state_dict().items():
        assert torch.equal(file.read(name), tensor)


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(2)],
        {"a": 1},
        {1: torch.zeros(2)},
        {"a": {"b": torch.zeros(2)}},
        {"a": torch.zeros(2, dtype=torch.complex64)},
        {"a": torch.zeros(2, dtype=torch.int64)},
        {"a": torch.zeros(2).to_sparse()},
        {"a": print},
    ],
    ids=str,
)
def test_what_is_no_dictionary_of_tensors_is_refused(content, is_zip):
    with pytest.raises(ValueError, match=r"."):
        TorchFile(saved(content, is_zip=is_zip))


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("tensor", [torch.zeros(4, 5).T, torch.zeros(1).expand(1000), torch.zeros(9)[::2]], ids=str)
def test_numbers_that_do_not_follow_one_another_are_refused(tensor, is_zip):
    file = TorchFile(saved({"a": tensor}, is_zip=is_zip))
    with pytest.raises(ValueError, match="'a' does not lie in its storage one number after the other"):
        file.read("a")


ODD_ESCAPE = b"S'\\u'\n."
"""Of which Python warns, and warnings are errors here."""


@pytest.mark.parametrize("content", [b"", b"PK", b"no file", pickle.dumps({}), pickle.dumps([1]), ODD_ESCAPE], ids=str)
def test_other_files_are_refused(content):
    with pytest.raises(ValueError, match=r"."):
        TorchFile(content)
