from elmolite.utils.console import display_width, printable, table


def test_columns_are_aligned_in_every_script():
    lines = table([["名詞", "1"], ["é́", "1,000"], [], ["ab", "x"]]).split("\n")
    assert lines == ["名詞      1", "é́     1,000", "", "ab        x"]
    assert {display_width(line) for line in lines if line} == {11}


def test_names_stay_on_their_line():
    assert printable("a\nb\x1b[31m") == "a�b�[31m"
    assert printable("") == "''"
    assert printable("x" * 50, width=10) == "x" * 9 + "…"
    assert display_width(printable("詞" * 50, width=10)) <= 10
