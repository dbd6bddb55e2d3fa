import struct

import pytest
import torch
from safetensors.torch import save_file

from elmolite.errors import InputError
from elmolite.utils.serialization import TensorFile


def test_other_shapes_are_refused(tmp_path):
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(2)}, tmp_path / "x.st")
    file = TensorFile(tmp_path / "x.st")
    file.check_shapes(file.shapes)
    for expected, message in (
        ({"a": (3, 2), "b": (2,)}, r"tensor 'a' has shape \(2, 3\), expected \(3, 2\)"),
        ({"a": (2, 3)}, r"tensor 'b' has shape \(2,\), expected none"),
        ({"a": (2, 3), "b": (2,), "c": ()}, r"tensor 'c' has shape none, expected \(\)"),
    ):
        with pytest.raises(InputError, match=message):
            file.check_shapes(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a readable safetensors file: No such file"),
        (b"\0" * 100, "not a readable safetensors file"),
        (
            struct.pack("<Q", 56) + b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(56) + b"\0",
            "tensor 'a' has dtype U8",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.st").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.st: .*{message}"):
        TensorFile(tmp_path / "x.st")


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ((torch.float16, torch.float16), torch.float16),
        ((torch.float16, torch.bfloat16), torch.float32),
        ((torch.int64,) * 2, torch.float32),
    ],
)
def test_the_common_float_dtype(tmp_path, dtypes, expected):
    save_file({str(i): torch.zeros(2, dtype=dtype) for i, dtype in enumerate(dtypes)}, tmp_path / "x.st")
    assert TensorFile(tmp_path / "x.st").dtype == expected
