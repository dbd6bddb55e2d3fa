from dataclasses import dataclass, field
from typing import Literal

import pytest

from elmolite.errors import InputError
from elmolite.utils import config
from elmolite.utils.config import read_fields


@dataclass
class Settings:
    size: int
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    is_on: bool = False
    name: str | None = None
    pairs: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size is negative")


def test_values_of_the_right_types_are_taken():
    fields = {"size": 3, "rate": 1, "kind": "b", "is_on": True, "name": None, "pairs": [[1, 2], [3, 4]]}
    assert read_fields(Settings, fields, where="x") == Settings(3, 1, "b", True, None, [[1, 2], [3, 4]])
    assert read_fields(Settings, {"size": 0}, where="x") == Settings(0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "x must be an object with the fields of Settings"),
        ({"size": 1, "siz": 2}, "x: unknown key 'siz'; did you mean 'size'"),
        ({"size": "1"}, "x: 'size' is '1'; expected int"),
        ({"size": 1, "rate": float("nan")}, "x: 'rate' is 'nan'; expected float"),
        ({"size": 1, "kind": 3}, "x: 'kind' is '3'; expected .*Literal"),
        ({"size": -1}, "x: size is negative"),
        ({}, "x: .*missing 1 required"),
    ],
)
def test_others_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        read_fields(Settings, fields, where="x")


def test_a_renamed_argument_is_taken_with_a_warning(monkeypatch):
    @config.accepts_renamed_arguments
    def scale(x, *, factor=1):
        return x * factor

    monkeypatch.setitem(config.RENAMED_SETTINGS, "scale", {"times": "factor"})
    assert scale(2, factor=3) == 6
    with pytest.warns(FutureWarning, match="times is deprecated and will be removed in the next release; use factor"):
        assert scale(2, times=3) == 6
    with pytest.raises(InputError, match="times is the deprecated name of factor: give one of them"):
        scale(2, times=3, factor=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'time'"):
        scale(2, time=3)
