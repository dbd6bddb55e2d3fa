import textwrap

import pytest

from elmolite.demo.docstrings import Docstring, Module, distinct_paragraphs, module_docstrings, plain, prose

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


def test_paragraphs_of_prose_without_markup_but_that_of_code():
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
def test_names_of_code_stand_between_back_ticks_however_they_were_marked(written, expected):
    text = f"It says {written} in a sentence with enough words for it."
    (found,) = prose(text)
    assert found.split() == f"It says {expected} in a sentence with enough words for it.".split()
    assert "`" not in plain(found)


def test_of_a_module_nested_definitions_included(tmp_path):
    source = '''
"""The first words of this module are here for all to read."""
class A:
    """A class is a thing with methods and some state of its own.

    And here its description goes on for one more paragraph.
    """
    def f(self):
        """f(x) -> y

        A method does what its name says and nothing beside it.
        """
    async def g(self):
        """no."""
'''
    path = tmp_path / "m.py"
    path.write_text(source)
    module, a, f = module_docstrings(path)
    assert [each.paragraphs[0].split()[0] for each in (module, a, f)] == ["The", "A", "A"]
    assert [each.is_function for each in (module, a, f)] == [False, False, True]
    assert [each.has_summary for each in (module, a, f)] == [True, True, False]
    assert len(a.paragraphs) == 2
    path.write_text("this is no Python '''at all'''")
    assert module_docstrings(path) == []


def test_a_paragraph_that_stands_twice_is_given_once_and_without_back_ticks():
    modules = [
        Module(
            "p", "a.py", [Docstring(["The `x` of it.", "Another."], True, True), Docstring(["Another."], True, True)]
        ),
        Module("p", "b.py", [Docstring(["The x of it."], True, True)]),
        Module("q", "a.py", [Docstring(["A third.", "Another."], True, True)]),
    ]
    assert list(distinct_paragraphs(modules)) == [["The x of it.", "Another."], ["A third."]]
