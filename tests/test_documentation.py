import textwrap

from elmolite.documentation import module_prose, prose

DOCSTRING = textwrap.dedent("""
    Return the sum of the elements over the given axis.

    This function is *very* much like :func:`numpy.sum`, but it also
    counts ``None`` as a zero when it is found in the input array.

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


def test_paragraphs_of_prose_without_markup():
    assert list(prose(DOCSTRING)) == [
        "Return the sum of the elements over the given axis.",
        "This function is very much like numpy.sum, but it also counts None as a zero when it is found in the "
        "input array.",
        "The values of which the sum is wanted by the caller.",
        "An item of a list that is a whole sentence by itself, too.",
        "After the block the prose goes on as if nothing had been there.",
    ]


def test_of_a_module_nested_definitions_included(tmp_path):
    source = '''
"""The first words of this module are here for all to read."""
class A:
    """A class is a thing with methods and some state of its own."""
    def f(self):
        """A method does what its name says and nothing beside it."""
'''
    path = tmp_path / "m.py"
    path.write_text(source)
    assert [text.split()[0] for text in module_prose(str(path))] == ["The", "A", "A"]
    path.write_text("this is no Python '''at all'''")
    assert module_prose(str(path)) == []
