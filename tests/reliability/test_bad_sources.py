"""Files, folders and patterns that are not as they should be: ``prepare`` names them, or reads each file once."""

import gzip
import os

import pytest

from elmolite.cli.main import main
from elmolite.data.corpus import Corpus

WORDS = "Every word of this text stands there twice . "
SENTENCE = f"{WORDS}{WORDS}\n"


def empty_folder(folder):
    (folder / "empty").mkdir()
    return ["empty"]


def folder_of_hidden_files(folder):
    write(folder / "hidden" / ".text.txt")
    write(folder / "hidden" / ".git" / "text.txt")
    return ["hidden"]


def missing(folder):
    return ["nowhere.txt"]


def pattern_without_match(folder):
    write(folder / "text.txt")
    return ["*.md"]


def link_to_nothing(folder):
    (folder / "link.txt").symlink_to("gone.txt")
    return ["link.txt"]


def link_to_nothing_in_a_folder(folder):
    write(folder / "in" / "text.txt")
    (folder / "in" / "link.txt").symlink_to("gone.txt")
    return ["in"]


def link_to_nothing_in_a_pattern(folder):
    write(folder / "text.txt")
    (folder / "tex.txt").symlink_to("gone.txt")
    return ["te*.txt"]


def second_file_empty(folder):
    write(folder / "a.txt")
    (folder / "b.txt").touch()
    return ["a.txt", "b.txt"]


def second_file_in_utf16(folder):
    write(folder / "in" / "a.txt")
    (folder / "in" / "b.txt").write_bytes("text\n".encode("utf-16"))
    return ["in"]


def image_in_a_folder(folder):
    write(folder / "in" / "a.txt")
    (folder / "in" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    return ["in"]


def standard_input_twice(folder):
    return ["-", "-"]


def name_too_long(folder):
    return ["x" * 5000]


REFUSED = {
    empty_folder: "empty: the folder contains no files",
    folder_of_hidden_files: "hidden: the folder contains no files",
    missing: "nowhere.txt: no such file, folder or pattern",
    pattern_without_match: "*.md: no such file, folder or pattern",
    link_to_nothing: "link.txt: is a link to gone.txt, which does not exist",
    link_to_nothing_in_a_folder: "in/link.txt: is a link to gone.txt, which does not exist",
    link_to_nothing_in_a_pattern: "tex.txt: is a link to gone.txt, which does not exist",
    second_file_empty: "b.txt: the file is empty (no line with text)",
    second_file_in_utf16: "in/b.txt, line 1: expected UTF-8 text, but the file is UTF-16",
    image_in_a_folder: "in/b.png, line 1: expected UTF-8 text, but the file is a PNG image",
    standard_input_twice: "standard input (-) can be read only once",
    name_too_long: "cannot be read: File name too long",
}


def write(path, content=SENTENCE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def folders_in_a_folder(folder):
    write(folder / "in" / "a.txt")
    write(folder / "in" / "deep" / "er" / "b.txt.gz", gzip.compress(SENTENCE.encode()))
    return ["in"], 2


def linked_folder(folder):
    write(folder / "there" / "a.txt")
    (folder / "in").mkdir()
    (folder / "in" / "link").symlink_to(folder / "there")
    return ["in"], 1


def folder_linked_into_itself(folder):
    write(folder / "in" / "a.txt")
    (folder / "in" / "again").symlink_to(folder / "in")
    return ["in"], 1


def pattern_of_a_folder(folder):
    write(folder / "in" / "deep" / "a.txt")
    write(folder / "in" / "b.txt")
    return ["in/*"], 2


def pattern_of_all_below(folder):
    write(folder / "in" / "deep" / "a.txt")
    write(folder / "in" / "b.txt")
    return ["in/**"], 2


def mark_in_the_second_file(folder):
    write(folder / "a.txt")
    write(folder / "b.txt", "\ufeff" + SENTENCE)
    return ["a.txt", "b.txt"], 2


def name_of_a_pattern(folder):
    write(folder / "[a]*.txt")
    return ["[a]*.txt"], 1


def name_with_spaces_and_line_ends(folder):
    write(folder / "my text\n.txt")
    return ["my text\n.txt"], 1


def name_that_is_not_utf8(folder):
    write(folder / os.fsdecode(b"caf\xe9.txt"))
    return [os.fsdecode(b"caf\xe9.txt")], 1


def no_line_end_between_files(folder):
    write(folder / "a.txt", SENTENCE.rstrip())
    write(folder / "b.txt", SENTENCE.rstrip())
    return ["a.txt", "b.txt"], 2


READ = [
    folders_in_a_folder,
    linked_folder,
    folder_linked_into_itself,
    pattern_of_a_folder,
    pattern_of_all_below,
    mark_in_the_second_file,
    name_of_a_pattern,
    name_with_spaces_and_line_ends,
    name_that_is_not_utf8,
    no_line_end_between_files,
]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_what_cannot_be_read_is_named(tmp_path, capsys, make):
    assert main(["prepare", *make(tmp_path), "--out", "corpus"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("elmolite: ")
    assert said.count("\n") == 1
    assert REFUSED[make] in said
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("make", READ, ids=lambda make: make.__name__)
def test_all_files_are_read_once(tmp_path, capsys, make):
    sources, n_lines = make(tmp_path)
    assert main(["prepare", *sources, "--pretokenized", "--out", "corpus"]) == 0
    assert f"{n_lines} lines, 0 of them blank" in capsys.readouterr().out
    corpus = Corpus.open("corpus")
    assert corpus.train.n_tokens + corpus.valid.n_tokens == n_lines * len(SENTENCE.split())
    assert set(corpus.words()[2:]) == set(SENTENCE.split())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
@pytest.mark.parametrize("name", ["in/a.txt", "in"])
def test_what_may_not_be_read_is_named(tmp_path, capsys, name):
    write(tmp_path / "in" / "a.txt")
    (tmp_path / name).chmod(0)
    assert main(["prepare", "in", "--out", "corpus"]) == 2
    (tmp_path / name).chmod(0o700)
    assert f"elmolite: {name}: cannot be read: Permission denied" in capsys.readouterr().err


VOCABULARIES = {
    "word twice": (b"<S>\n</S>\n<UNK>\nword\nword\n", "vocab.txt, line 5: the word 'word' stands there twice"),
    "blank line": (b"<S>\n</S>\n<UNK>\n\nword\n", "vocab.txt, line 4: a blank line where a word was expected"),
    "count of letters": (b"word\tmany\n", "vocab.txt, line 1: the count 'many' is not a number"),
    "empty": (b"", "vocab.txt: the vocabulary is empty"),
    "latin-1": (b"word\ncaf\xe9\n", "vocab.txt, line 2: not UTF-8"),
    "utf-16": ("word\n".encode("utf-16"), "vocab.txt, line 1: expected UTF-8 text, but the file is UTF-16"),
    "CR alone": (b"word\rtext\r", "vocab.txt, line 1: the lines end in \\r alone"),
    "specials missing": (b"word\ntext\n", None),
    "specials elsewhere": (b"word\n</S>\ntext\n<UNK>\n<S>\n", None),
    "CRLF": (b"word\t3\r\ntext\t2\r\n", None),
    "mark at the start": (b"\xef\xbb\xbfword\ntext\n", None),
    "no line end": (b"word\ntext", None),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_given_vocabularies(tmp_path, capsys, name):
    content, message = VOCABULARIES[name]
    write(tmp_path / "text.txt")
    write(tmp_path / "vocab.txt", content)
    code = main(["prepare", "text.txt", "--vocab", "vocab.txt", "--out", "corpus"])
    if message is None:
        assert code == 0
        assert Corpus.open("corpus").vocabulary.words == ["<S>", "</S>", "<UNK>", "word", "text"]
    else:
        assert code == 2
        assert f"elmolite: {message}" in capsys.readouterr().err
        assert not (tmp_path / "corpus").exists()


HELD_OUT = {
    "empty": ("", 2, "valid.txt: the file is empty"),
    "only blank lines": ("\n \n", 2, "valid.txt: the file is empty"),
    "missing": (None, 2, "valid.txt: no such file"),
    "in latin-1": (b"caf\xe9\n", 2, "valid.txt, line 1: not UTF-8"),
}


@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_text_that_cannot_be_used_is_named(tmp_path, capsys, name):
    content, code, message = HELD_OUT[name]
    write(tmp_path / "text.txt")
    if content is not None:
        write(tmp_path / "valid.txt", content)
    assert main(["prepare", "text.txt", "--valid", "valid.txt", "--out", "corpus"]) == code
    assert message in capsys.readouterr().err


def test_held_out_text_that_is_trained_on_is_told(tmp_path, capsys):
    write(tmp_path / "in" / "text.txt")
    assert main(["prepare", "in", "--valid", "in/text.txt", "--out", "corpus"]) == 0
    assert capsys.readouterr().err.startswith("in/text.txt: appears in training and validation text")
