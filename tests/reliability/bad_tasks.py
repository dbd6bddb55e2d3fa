"""Named classes of broken and odd task files, and what becomes of each: refused with file and line, or taken.

``test_bad_text.py`` runs the commands on them: a broken file must be refused by ``finetune`` before it trains.
"""

import gzip
from typing import NamedTuple

from bad_text import Refused


class Read(NamedTuple):
    """So many examples, and on standard error no more than ``remark``."""

    n_examples: int
    remark: str = ""


class TaskFile(NamedTuple):
    """A file of examples; ``options`` are arguments of the commands."""

    task: str
    name: str
    content: bytes
    expected: Refused | Read
    options: tuple[str, ...] = ()


def file_of(task, name):
    """Return what makes a class of this task, in a file of this name."""

    def make(content, expected, *options):
        encoded = content if isinstance(content, bytes) else content.encode()
        return TaskFile(task, name, encoded, Refused(expected) if isinstance(expected, str) else expected, options)

    return make


def row(number, form, upos="NOUN"):
    """A line of CoNLL-U."""
    return f"{number}\t{form}\t_\t{upos}\t_\t_\t_\t_\t_\t_\n"


conllu, conll = file_of("tag", "a.conllu"), file_of("tag", "a.conll")
csv, tsv = file_of("classify", "a.csv"), file_of("classify", "a.tsv")
jsonl, tagged_jsonl = file_of("classify", "a.jsonl"), file_of("tag", "a.jsonl")
lines, pairs = file_of("classify", "a.txt"), file_of("entail", "a.tsv")

TWO = row(1, "ban") + row(2, "kin", "VERB")
CONLLU = {
    "conllu with comments": conllu(f"# text = ban kin\n#\n{TWO}\n", Read(1)),
    "conllu with ranges": conllu(row("1-2", "bankin", "_") + TWO + "\n", Read(1, "multiword tokens left out: 1")),
    "conllu with empty nodes": conllu(TWO + row("2.1", "gone", "_") + "\n", Read(1, "empty nodes left out: 1")),
    "conllu of comments alone": conllu("# a\n\n# b\n\n", r"no example.; sentences without words left out: 2"),
    "conllu sentence without words": conllu(f"# a\n\n{TWO}\n", Read(1, "sentences without words left out: 1")),
    "conllu with too few columns": conllu(TWO + "3\tlun\t_\tNOUN\n", "line 3: 4 columns where CoNLL-U has 10"),
    "conllu with too many columns": conllu(TWO.replace("kin", "kin\tx"), "line 2: 11 columns where CoNLL-U has 10"),
    "conllu with spaces": conllu(TWO.replace("\t", " "), "line 1: 1 columns where CoNLL-U has 10"),
    "conllu without last blank line": conllu(TWO.rstrip("\n"), Read(1)),
    "conllu without blank lines": conllu(TWO + TWO, "line 3: expected token 3 of the sentence, found the ID '1'"),
    "conllu with CRLF": conllu(f"{TWO}\n{TWO}\n".replace("\n", "\r\n"), Read(2)),
    "conllu with CR alone": conllu(f"{TWO}\n".replace("\n", "\r"), r"line 1: the lines end in \\r alone"),
    "conllu with an ID left out": conllu(row(1, "ban") + row(3, "kin"), "line 2: expected token 2 .* found the ID '3'"),
    "conllu with an ID twice": conllu(row(1, "ban") + row(1, "kin"), "line 2: expected token 2 .* found the ID '1'"),
    "conllu with a word for an ID": conllu(TWO + row("x", "lun"), "line 3: expected token 3 .* found the ID 'x'"),
    "conllu with an empty form": conllu(row(1, "ban") + row(2, ""), "line 2: the token is empty"),
    "conllu with an empty tag": conllu(row(1, "ban") + row(2, "kin", ""), "line 2: the tag is empty"),
    "conllu without tags": conllu(row(1, "ban", "_") + row(2, "kin", "_"), "line 1: a sentence without tags"),
    "conllu of another column": conllu(TWO, "CoNLL-U has no column 'UPOSS'", "--columns.label=UPOSS"),
    "conllu with spaces in a blank line": conllu(f"{TWO} \t\n{TWO}", Read(2)),
    "conllu with words with spaces": conllu(row(1, "10 000") + row(2, "kin"), Read(1)),
    "conllu with a mark between files": conllu(f"{TWO}\n\ufeff{TWO}", Read(2, "byte order marks inside the text")),
    "conllu with NUL": conllu(TWO + row(3, "l\0n"), "line 3: contains a NUL byte"),
    "conllu in latin-1": conllu((TWO + row(3, "né")).encode("latin-1"), "line 3: not UTF-8 .*encoding latin-1"),
    "conllu cut short": conllu(TWO[:-12], "line 2: .* columns where CoNLL-U has 10"),
    "conllu to classify": TaskFile("classify", "a.conllu", TWO.encode(), Refused("conllu is not for the task")),
}  # fmt: skip

BIO = "ban B-x\nkin I-x\nlun O\n"
CONLL = {
    "conll of one column": conll("ban\nkin\n\nlun\n", "line 1: a token without a tag: 'ban'"),
    "conll with a column more": conll(BIO + "ban NN O\n", "line 4: 3 columns where the lines above have 2"),
    "conll with a tag missing": conll("ban O\nkin\n", "line 2: 1 columns where the lines above have 2"),
    "conll with an empty tag": conll("ban\tO\nkin\t\n", "line 2: the tag is empty"),
    "conll with an empty token": conll("ban\tO\n\tO\n", "line 2: the token is empty"),
    "conll with -DOCSTART-": conll(f"-DOCSTART- O\n\n{BIO}\n", Read(1, "-DOCSTART- lines left out: 1")),
    "conll of -DOCSTART- alone": conll("-DOCSTART- O\n\n", r"no example.; -DOCSTART- lines left out: 1"),
    "conll with I- without B-": conll("ban I-x\nkin O\n\n" + BIO, Read(2)),
    "conll with an I- of another type": conll("ban B-x\nkin I-y\n\nlun B-y\n", Read(2)),
    "conll of an unknown scheme": conll("ban Q-x\nkin E-x\n", Read(1)),
    "conll with tabs and spaces": conll("ban\tO\nkin O\n", Read(1)),
    "conll with runs of spaces": conll("ban     O\nkin  O\n", Read(1)),
    "conll with CRLF": conll(f"{BIO}\n{BIO}".replace("\n", "\r\n"), Read(2)),
    "conll with a no-break space for a blank line": conll(f"{BIO}\xa0\n{BIO}", "line 4: 1 columns where the lines"),
    "conll without blank lines": conll(BIO * 5, Read(1)),
    "conll of a column not there": conll(BIO, "no column '5'; .* numbers 1 to 2", "--columns.label=5"),
    "conll of a column by name": conll(BIO, "no column 'ner'; .* numbers 1 to 2", "--columns.label=ner"),
    "conll with blank lines in heaps": conll(f"\n\n{BIO}\n\n\n{BIO}\n\n", Read(2)),
    "conll empty": conll("", "the file is empty"),
}  # fmt: skip

HEAD = "text,label\n"
CSV = {
    "csv quote not closed": csv(HEAD + 'ban,a\n"kin,b\nlun,a\n', "line 3: the row that starts here is broken"),
    "csv quote in the middle": csv(HEAD + 'ban "kin" lun,a\n', Read(1)),
    "csv quote closed too early": csv(HEAD + '"ban" kin,a\n', "line 2: the row that starts here is broken"),
    "csv line ends in quotes": csv(HEAD + '"ban\nkin",a\nlun,b\n', Read(2, "line ends in quotes, which end no row")),
    "csv without header": csv("ban kin,a\nlun ban,b\nkin lun,a\n", Read(3)),
    "csv header twice": csv(HEAD + HEAD + "ban,a\n", Read(2)),
    "csv header of names twice": csv("text,text,label\nban,kin,a\n", "line 1: the text may be 'text' or 'text'"),
    "csv of a header alone": csv(HEAD, r"is empty \(no example\)"),
    "csv header of other names": csv("body,topic\nban kin,a\nlun ban,b\nkin ban,a\n", "line 1: is it a header"),
    "csv column missing in row 17": csv(HEAD + "ban,a\n" * 15 + "kin\n", "line 17: 1 fields where line 1 has 2"),
    "csv column too many": csv(HEAD + "ban, kin,a\n", "line 2: 3 fields where line 1 has 2"),
    "csv with semicolons": csv("text;label\nban;a\n", "not clear which column holds what.*line 1"),
    "csv with tabs": csv("text\tlabel\nban\ta\n", "not clear which column holds what.*line 1"),
    "csv mark in front of the header": csv("\ufeff" + HEAD + "ban,a\n", Read(1)),
    "csv empty label": csv(HEAD + "ban,a\nkin,\n", "line 3: no label in 'label'"),
    "csv blank label": csv(HEAD + 'ban,"  "\n', "line 2: no label in 'label'"),
    "csv label with spaces": csv(HEAD + "ban,very good\nkin,bad\n", Read(2)),
    "csv quoted and empty": csv(HEAD + '"",a\n', "line 2: the sentence in 'text' is empty"),
    "csv sentence of spaces": csv(HEAD + "   ,a\n", "line 2: the sentence in 'text' is empty"),
    "csv of 100,000 columns": csv("text,label" + ",x" * 99_998 + "\nban,a" + "," * 99_998 + "\n", Read(1)),
    "csv with NUL": csv(HEAD + "b\0n,a\n", "line 2: contains a NUL byte"),
    "csv with blank lines": csv(HEAD + "ban,a\n\n  \nkin,b\n\n", Read(2, r"blank lines left out: 3 .first in line 3")),
    "csv with CR in a row": csv(HEAD + "ban,a\nk\rn,b\n", "line 3: .*a carriage return outside quotes"),
    "csv with CRLF": csv(HEAD.replace("\n", "\r\n") + "ban,a\r\n", Read(1)),
    "csv with long fields": csv(HEAD + "ban " * 500 + ",a\n", Read(1)),
    "csv of a column not there": csv(HEAD + "ban,a\n", "line 1: no column 'body'", "--columns.text=body"),
    "csv of a number not there": csv(HEAD + "ban,a\n", "line 1: no column 7", "--columns.label=7"),
    "csv in utf-16": csv((HEAD + "ban,a\n").encode("utf-16"), "line 1: expected UTF-8 text, but the file is UTF-16"),
    "csv that is a spreadsheet": csv(b"PK\x03\x04\x14\0", "line 1: expected UTF-8 text, but the file is a zip archive"),
    "csv of excel with sep=": csv("sep=,\n" + HEAD + "ban,a\n", "not clear which column holds what.*line 1: 'sep='"),
}  # fmt: skip

TSV = {
    "tsv with fields too many": tsv("text\tlabel\nban\tkin\ta\n", "line 2: 3 fields where line 1 has 2"),
    "tsv with a lone quote": tsv('text\tlabel\n"ban\ta\nkin"\tb\n', Read(2)),
    "tsv with quotes of a spreadsheet": tsv('text\tlabel\n"say ""ban"""\ta\n', Read(1)),
    "tsv with rows of tabs": tsv("text\tlabel\nban\ta\n\t\n", Read(1, "blank lines left out: 1")),
    "tsv with spaces for tabs": tsv("text label\nban a\n", "line 1|not clear which column"),
    "tsv label missing": tsv("text\tlabel\nban\t\n", "line 2: no label in 'label'"),
}

OBJECT = '{"text": "ban kin", "label": "a"}\n'
JSON_LINES = {
    "json broken in line 3": jsonl(OBJECT * 2 + '{"text": "ban"\n', "line 3: no JSON"),
    "json array": jsonl(OBJECT + '["ban", "a"]\n', "line 2: expected a JSON object, found"),
    "json number": jsonl(OBJECT + "7\n", "line 2: expected a JSON object, found '7'"),
    "json key missing": jsonl(OBJECT + '{"label": "a"}\n', "line 2: no 'text' among 'label'"),
    "json label missing": jsonl(OBJECT + '{"text": "ban"}\n', "line 2: no label in 'label'"),
    "json of another type": jsonl(OBJECT + '{"text": 7, "label": "a"}\n', "line 2: 'text' holds a number, not"),
    "json label of objects": jsonl(OBJECT + '{"text": "ban", "label": {"a": 1}}\n', "line 2: 'label' holds an object"),
    "json label null": jsonl(OBJECT + '{"text": "ban", "label": null}\n', "line 2: no label in 'label'"),
    "json label NaN": jsonl(OBJECT + '{"text": "ban", "label": NaN}\n', "line 2: no label in 'label'"),
    "json score NaN": jsonl('{"text": "ban", "label": "a", "score": NaN}\n', Read(1)),
    "json key twice": jsonl('{"text": "ban", "text": "kin", "label": "a"}\n', "line 1: .*'text' stands there twice"),
    "json nested deeply": jsonl(OBJECT + "[" * 100_000 + "\n", "line 2: JSON that cannot be read"),
    "json number of many digits": jsonl('{"text": "ban", "label": ' + "9" * 10_000 + "}\n", "line 1: JSON that cannot"),
    "json with a comma at the end": jsonl('{"text": "ban", "label": "a",}\n', "line 1: no JSON"),
    "json with commas between": jsonl('{"text": "ban", "label": "a"},\n', "line 1: no JSON: Extra data"),
    "json in an array of lines": jsonl('[\n{"text": "ban", "label": "a"}\n]\n', "line 1: no JSON"),
    "json over several lines": jsonl('{\n "text": "ban"\n}\n', "line 1: no JSON"),
    "json in single quotes": jsonl("{'text': 'ban', 'label': 'a'}\n", "line 1: no JSON"),
    "json with blank lines": jsonl(OBJECT + "\n\n" + OBJECT, Read(2, "blank lines left out: 2")),
    "json in utf-16": jsonl(OBJECT.encode("utf-16"), "line 1: expected UTF-8 text, but the file is UTF-16"),
    "json with half a surrogate pair": jsonl(
        '{"text": "ban \\ud83d", "label": "a"}\n', Read(1, r"lone surrogates replaced by U\+FFFD: 1")
    ),
    "json with a line separator": jsonl('{"text": "ban\u2028kin", "label": "a"}\n', Read(1)),
    "json sentence null": jsonl('{"text": null, "label": "a"}\n', "line 1: the sentence in 'text' is empty"),
    "json empty sentence": jsonl('{"text": "", "label": "a"}\n', "line 1: the sentence in 'text' is empty"),
    "json empty list of tokens": tagged_jsonl('{"tokens": [], "tags": []}\n', "line 1: the sentence .* is empty"),
    "json tags too few": tagged_jsonl('{"tokens": ["ban", "kin"], "tags": ["O"]}\n', "line 1: .*2 tokens and 1 tags"),
    "json token of digits": tagged_jsonl('{"tokens": ["ban", 7], "tags": ["O", "O"]}\n', "line 1: token 2 .* a number"),
    "json tag null": tagged_jsonl('{"tokens": ["ban"], "tags": [null]}\n', "line 1: 'tags' holds nothing"),
    "json cut short": jsonl((OBJECT * 3)[:-20], "line 3: no JSON"),
}  # fmt: skip

LINES = {
    "label alone": lines("a ban kin\nb\n", "line 2: no sentence behind the label: 'b'"),
    "label behind spaces": lines("  left ban\nright kin\n", Read(2)),
    "label and tab": lines("left\tban kin\nright\tlun\n", Read(2)),
    "label of fastText missing": lines("__label__a ban\nkin lun\n", "line 2: no label: 'kin lun'"),
    "label of fastText empty": lines("__label__ ban\n", "line 1: no label"),
    "labels with blank lines": lines(
        "left ban\n\nright kin\n \n", Read(2, r"blank lines left out: 2 \(first in line 2\)")
    ),
    "labels in latin-1": lines(b"a caf\xe9\n", "line 1: not UTF-8 .*; if it is of another encoding, say so"),
    "labels in gzip cut short": TaskFile(
        "classify", "a.txt.gz", gzip.compress(b"a ban kin\n" * 500)[:-9], Refused("broken gzip file after line")
    ),
    "prose": lines("".join(f"{chr(97 + i)}x is a word\n" for i in range(26)), "the format is not recognised.*line 1"),
}

PAIR = "premise\thypothesis\tlabel\n"
PAIRS = {
    "pair with one sentence": pairs(PAIR + "ban\tsame\n", "line 2: 2 fields where line 1 has 3"),
    "pair with an empty sentence": pairs(PAIR + "ban\t\tsame\n", "line 2: the sentence in 'hypothesis' is empty"),
    "pair without agreed label": pairs(PAIR + "ban\tkin\t-\nban\tban\tsame\n", Read(1, "pairs without an agreed")),
    "pairs without any agreed label": pairs(PAIR + "ban\tkin\t-\n", r"no example.; pairs without"),
    "pair without hypothesis column": pairs("premise\tlabel\nban\tsame\n", "line 1: no column of a known name"),
    "pair with a label missing": pairs(PAIR + "ban\tkin\t\n", "line 2: no label in 'label'"),
    "pairs with blank lines": pairs(PAIR + "ban\tban\tsame\n\n", Read(1, "blank lines left out: 1")),
}  # fmt: skip

TASK_FILES = {**CONLLU, **CONLL, **CSV, **TSV, **JSON_LINES, **LINES, **PAIRS}
