"""The examples in the docstrings of the public names, run as doctests."""

import doctest
import importlib
import pkgutil

import pytest

import elmolite
from elmolite import ELMo
from elmolite.embedding.neighbours import NeighbourIndex
from elmolite.nn.softmax import AdaptiveSoftmax, FullSoftmax


def examples():
    """Return the examples of all modules by qualified name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [each.name for each in pkgutil.walk_packages(elmolite.__path__, "elmolite.")]
    found = {}
    for name in modules:
        if name not in ("elmolite.__main__", "elmolite.comparison", "elmolite.finetuning_setup"):
            for test in finder.find(importlib.import_module(name), name):
                if test.examples:
                    found[test.name.removeprefix(f"{name}.")] = test
    return found


EXAMPLES = examples()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("examples")
    (path / "text.txt").write_text("The children play in the garden.\n" * 40)
    elmolite.prepare(str(path / "text.txt"), path / "corpus", n_workers=1, show_progress=False)
    (path / "reviews.csv").write_text("text,label\n" + "A fine play.,good\nToo long.,bad\n" * 20)
    return path


def test_every_public_name_has_an_example():
    public = [*elmolite.__all__, *(each.__name__ for each in (NeighbourIndex, FullSoftmax, AdaptiveSoftmax))]
    assert [name for name in public if name not in EXAMPLES] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(folder, monkeypatch, no_pictures, name):
    monkeypatch.chdir(folder)
    test = EXAMPLES[name]
    public = {each: getattr(elmolite, each) for each in elmolite.__all__}
    test.globs = {**public, **test.globs, "elmo": ELMo.from_pretrained("mini-en")}
    said = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
    assert "".join(said) == ""
