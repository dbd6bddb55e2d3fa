import pytest

from elmolite.errors import InputError
from elmolite.tasks.own_heads import load_head


def test_a_class_and_a_function_of_a_file(tmp_path):
    path = tmp_path / "heads.py"
    path.write_text(
        "from torch import nn\n\nclass Head(nn.Linear):\n    pass\n\ndef make(i, o):\n    return Head(i, 2 * o)\n"
    )
    for name, n_outputs in (("Head", 3), ("make", 6)):
        head = load_head(f"{path}:{name}")(4, 3)
        assert (head.in_features, head.out_features) == (4, n_outputs)


@pytest.mark.parametrize(
    ("reference", "content", "message"),
    [
        ("heads.py", "", "expected FILE.py:NAME"),
        (":Head", "", "expected FILE.py:NAME"),
        ("nowhere.py:Head", "", "there is no file nowhere.py"),
        ("heads.txt:Head", "", "no Python file"),
        ("heads.py:Haed", "class Head: pass", "no class or function 'Haed'; did you mean 'Head'"),
        ("heads.py:head", "head = 3", "no class or function 'head'"),
        ("heads.py:Head", "import nowhere_at_all", "does not run: ModuleNotFoundError: No module named"),
        ("heads.py:Head", "class", "does not run: SyntaxError"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, monkeypatch, reference, content, message):
    monkeypatch.chdir(tmp_path)
    for name in ("heads.py", "heads.txt"):
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        load_head(reference)
