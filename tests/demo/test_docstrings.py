import textwrap

import pytest

from elmolite.demo.docstrings import Module, distinct_paragraphs, docstrings, plain, prose

DOCSTRING = textwrap.dedent("""
    Return the sum of the elements over the given axis.

    This function is *very* much like :func:`numpy.sum`, but it also
    counts ``None`` as a zero when it is found in the input array.

    Notes
    -----
    What stands under a heading is prose if there are enough words.

    Parameters
    ----------
    x : array_like
        The values of which the sum is wanted by the caller.

    - An item of a list that is a whole sentence by itself, too.

    >>> total([1, 2, 3])
    6

    For example::

        every line of this block is code and none of it is prose.

    After the block the prose goes on as if nothing had been there.
""")


def test_prose_keeps_back_ticks_and_no_other_markup():
    assert list(prose(DOCSTRING)) == [
        "Return the sum of the elements over the given axis.",
        "This function is very much like `numpy.sum`, but it also counts `None` as a zero when it is found in the "
        "input array.",
        "What stands under a heading is prose if there are enough words.",
        "The values of which the sum is wanted by the caller.",
        "An item of a list that is a whole sentence by itself, too.",
        "After the block the prose goes on as if nothing had been there.",
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("the ``first`` and `second` one", "the `first` and `second` one"),
        (":meth:`~a.B.c` and :py:class:`D <a.D>`", "`a.B.c` and `D`"),
        ("see :ref:`this part <label>` and :pep:`484`", "see this part and 484"),
        ("see `our pages <https://a.b>`_ and `these`__", "see our pages and these"),
        ("the `default' one and the `other'", "the `default` one and the `other`"),
        ("a *small* and a **large** one", "a small and a large one"),
        ("an odd ` alone", "an odd alone"),
        ("`` `` with nothing inside", "with nothing inside"),
    ],
)
def test_names_of_code_are_put_between_back_ticks(written, expected):
    text = f"It says {written} in a sentence with enough words for it."
    (found,) = prose(text)
    assert found.split() == f"It says {expected} in a sentence with enough words for it.".split()
    assert "`" not in plain(found)


def test_docstrings_of_nested_definitions(tmp_path):
    source = '''
"""Module."""
class A:
    """Class."""
    def f(self):
        """Method."""
    async def g(self):
        """Coroutine."""
def h():
    pass
'''
    path = tmp_path / "m.py"
    path.write_text(source)
    assert list(docstrings(path)) == ["Module.", "Class.", "Method.", "Coroutine."]
    path.write_text("this is not Python '''at all'''")
    assert list(docstrings(path)) == []


def test_repeated_paragraphs_are_given_once_and_without_back_ticks():
    modules = [
        Module("p", "a.py", ["The `x` of it.", "Another.", "Another."]),
        Module("p", "b.py", ["The x of it."]),
        Module("q", "a.py", ["A third.", "Another."]),
    ]
    found = [(module.name, paragraphs) for module, paragraphs in distinct_paragraphs(modules)]
    assert found == [("a.py", ["The x of it.", "Another."]), ("a.py", ["A third."])]
