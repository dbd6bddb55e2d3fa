import pytest

from elmolite.errors import InputError
from elmolite.utils import deprecation


def test_a_renamed_argument_is_taken_with_a_warning(monkeypatch):
    @deprecation.accepts_renamed_arguments
    def scale(x, *, factor=1):
        return x * factor

    monkeypatch.setitem(deprecation.RENAMED_SETTINGS, "scale", {"times": "factor"})
    assert scale(2, factor=3) == 6
    with pytest.warns(FutureWarning, match="times is deprecated and will be removed in the next release; use factor"):
        assert scale(2, times=3) == 6
    with pytest.raises(InputError, match="times is the deprecated name of factor: give one of them"):
        scale(2, times=3, factor=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'time'"):
        scale(2, time=3)
