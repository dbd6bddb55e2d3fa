"""Named classes of broken and odd text, and what becomes of each: refused with file and line, or taken and counted.

A class is what a user meets, not a variation of another. ``test_bad_text.py`` runs the commands on them.
"""

import bz2
import gzip
import lzma
from typing import NamedTuple

from elmolite.data.text import MAX_LINE_BYTES, PIECE_BYTES


class Refused(NamedTuple):
    """Exit code 2 with one message, which names the file and matches this pattern."""

    message: str


class Taken(NamedTuple):
    """So many lines of which so many are blank, no character lost, and on standard error no more than ``remark``."""

    n_lines: int
    n_blank: int = 0
    remark: str = ""


class Text(NamedTuple):
    """A file of text."""

    content: bytes
    expected: Refused | Taken
    others: dict[str, Refused | Taken] = {}  # noqa: RUF012
    """What becomes of it in single commands, where that differs."""
    name: str = "text.txt"


ALL_BLANK = Refused(r"the file is empty \(no line with text\)")
NUL = "contains a NUL byte"
MARKS = r"byte order marks inside the text, left out: {} \(first in line {}\)"
RETURNS = r"carriage returns inside lines, read as white space: {} \(first in line {}\)"


def blank(content, n_lines):
    """Only white space: no text to learn from, but as many empty arrays as lines."""
    return Text(content, ALL_BLANK, {"embed": Taken(n_lines, n_lines)})


def utf8(text, n_lines=1, n_blank=0, remark=""):
    return Text(text.encode(), Taken(n_lines, n_blank, remark))


def not_utf8(content, line, byte, column):
    return Text(content, Refused(rf"line {line}: not UTF-8 \(byte 0x{byte:02x} at column {column}\)"))


def not_text(content, kind, name="text.txt"):
    return Text(content, Refused(f"line 1: expected UTF-8 text, but the file is {kind}"), name=name)


def nul(content, line):
    return Text(content, Refused(f"line {line}: {NUL}"))


BLOCK = 8192
GZIPPED = gzip.compress(b"good text\n" * 1000)
BROKEN_GZIP = Refused("broken gzip file after line")

ENCODINGS = {
    "latin-1": not_utf8(b"good text\ncaf\xe9 au lait\n", 2, 0xE9, 4),
    "cp1252 quotes": not_utf8(b"\x93quoted\x94\n", 1, 0x93, 1),
    "cp437 of DOS": not_utf8("good\nStraße\n".encode("cp437"), 2, 0xE1, 5),
    "mac roman": not_utf8("the café\n".encode("mac-roman"), 1, 0x8E, 8),
    "koi8-r": not_utf8("мир\n".encode("koi8-r"), 1, 0xCD, 1),
    "iso-8859-6 of Arabic": not_utf8("سلام\n".encode("iso-8859-6"), 1, 0xD3, 1),
    "shift-jis": not_utf8("日本\n".encode("shift-jis"), 1, 0x93, 1),
    "gb18030": not_utf8("中文\n".encode("gb18030"), 1, 0xD6, 1),
    "big5": not_utf8("中文\n".encode("big5"), 1, 0xA4, 1),
    "euc-kr": not_utf8("한국\n".encode("euc-kr"), 1, 0xC7, 1),
    "ebcdic": not_utf8("hello\n".encode("cp500"), 1, 0x88, 1),
    "utf-16 little-endian with mark": not_text("good text\n".encode("utf-16"), "UTF-16; convert it: iconv"),
    "utf-16 big-endian with mark": not_text(b"\xfe\xff" + "good text\n".encode("utf-16-be"), "UTF-16"),
    "utf-16 little-endian without mark": nul("good text\n".encode("utf-16-le"), 1),
    "utf-16 big-endian without mark": nul("good text\n".encode("utf-16-be"), 1),
    "utf-16 of Chinese without mark": Text("中文\n".encode("utf-16-le"), Refused("line [12]: (not UTF-8|contains)")),
    "utf-32 with mark": not_text("good text\n".encode("utf-32"), "UTF-32"),
    "utf-32 without mark": nul("good text\n".encode("utf-32-be"), 1),
    "mark at the start": utf8("\ufeffgood text\n"),
    "two marks at the start": utf8("\ufeff\ufeffgood text\n", 1, 0, MARKS.format(1, 1)),
    "mark between texts put together": utf8("good text\n\ufeffmore text\n", 2, 0, MARKS.format(1, 2)),
    "mark inside a line": utf8("good\ufeff text \ufeffhere\n"),
    "mark alone": Text(b"\xef\xbb\xbf", ALL_BLANK, {"embed": Taken(1, 1)}),
    "mark and a blank line": blank(b"\xef\xbb\xbf\n", 1),
    "half a mark": not_utf8(b"\xef\xbbgood\n", 1, 0xEF, 1),
    "overlong slash": not_utf8(b"a \xc0\xaf b\n", 1, 0xC0, 3),
    "overlong NUL of Java": not_utf8(b"a\xc0\x80b\n", 1, 0xC0, 2),
    "cesu-8 pair": not_utf8(b"\xed\xa0\xbd\xed\xb8\x80\n", 1, 0xED, 1),
    "lone surrogate": not_utf8(b"good\na \xed\xa0\x80\n", 2, 0xED, 3),
    "beyond the last code point": not_utf8(b"\xf4\x90\x80\x80\n", 1, 0xF4, 1),
    "five bytes of old UTF-8": not_utf8(b"\xf8\x88\x80\x80\x80\n", 1, 0xF8, 1),
    "byte 0xff": not_utf8(b"a \xff b\n", 1, 0xFF, 3),
    "lone continuation byte": not_utf8(b"good\n\n\x80\n", 3, 0x80, 1),
    "character cut at the end of the file": not_utf8(b"good\ncaf\xc3", 2, 0xC3, 4),
    "character cut at a line end": not_utf8(b"caf\xc3\ngood\n", 1, 0xC3, 4),
    "character over a block of the reader": utf8("x" * (BLOCK - 1) + "é good\n"),
    "broken character behind a block": not_utf8(b"x" * BLOCK + b" \xe9t\xe9\n", 1, 0xE9, BLOCK + 2),
    "two encodings in one file": not_utf8("é\n\n".encode() + "é\n".encode("latin-1"), 3, 0xE9, 1),
    "decoded twice": utf8("cafÃ© â€œquotedâ€\x9d\n"),
    "replacement characters": utf8("caf\ufffd \ufffd\ufffd\n"),
    "utf-7": utf8("caf+AOk- good\n"),
    "quoted-printable": utf8("caf=C3=A9 and=\nmore\n", 2),
    "entities of HTML": utf8("caf&eacute; &amp;&nbsp;more &#233;\n"),
    "escapes of JSON": utf8("caf\\u00e9 \\ud83d\\ude00\n"),
}  # fmt: skip

CONTROLS = {
    "NUL at the start": nul(b"\0good text\n", 1),
    "NUL in a word": nul(b"good\nte\0xt\n", 2),
    "NUL as a word": nul(b"good \0 text\n", 1),
    "NUL at the end": nul(b"good text\n\0", 2),
    "NUL block of a crash": nul(b"good text\n" * 3 + b"\0" * 4096, 4),
    "NUL between lines": nul(b"good text\0more text\0", 1),
    "all of C0": utf8("".join(f"a{chr(c)}b " for c in range(1, 32) if chr(c) not in "\n\r") + "\n"),
    "all of C1": utf8("".join(f"a{chr(c)}b " for c in range(0x80, 0xA0)) + "\n"),
    "delete": utf8("good\x7f \x7f text\n"),
    "backspaces of a manual page": utf8("N\bNA\bAM\bME\bE _\bit\n"),
    "colours of a terminal": utf8("\x1b[31mred\x1b[0m text\n"),
    "bell": utf8("good\a text\n"),
    "end of file of DOS": utf8("good text\n\x1a", 2),
    "separators 1C to 1F": utf8("a\x1cb\x1dc\x1ed\x1fe\n"),
    "line of separators": Text(b"good\n\x1c\x1d\nmore\n", Taken(3, 1), {"embed raw": Taken(3)}),
    "form feed between pages": utf8("page one\n\fpage two\n\f", 3, 1),
    "vertical tab of a word processor": utf8("good\vtext\n"),
    "annotation marks": utf8("\ufff9base\ufffagloss\ufffb text\n"),
    "object replacement": utf8("see \ufffc here\n"),
    "tags of languages": utf8("\U000e0001\U000e0065\U000e006e text\n"),
}

LINE_ENDS = {
    "CRLF": utf8("good text\r\n\r\nmore text\r\n", 3, 1),
    "CR alone": Text(b"good text\rmore text\r", Refused(r"line 1: the lines end in \\r alone; expected \\n or \\r\\n")),
    "CR at the end of the only line": utf8("good text\r"),
    "LF and CRLF": utf8("good text\nmore\r\nand\n", 3),
    "LF and CR": utf8("good text\nmore\rtext\rhere\n", 2, 0, RETURNS.format(2, 2)),
    "CRCRLF": utf8("good text\r\r\nmore\r\r\n", 2),
    "LFCR": utf8("good\n\rmore\n\r", 3, 1, RETURNS.format(1, 2)),
    "next line": utf8("good\u0085more\n"),
    "line separator": utf8("good\u2028more\n"),
    "paragraph separator": utf8("good\u2029more\n"),
    "no line end at the end": utf8("good text\nmore text", 2),
    "empty": Text(b"", ALL_BLANK, {"embed": Refused("the file is empty")}),
    "only line ends": blank(b"\n\n\n", 3),
    "only CRLF": blank(b"\r\n\r\n", 2),
    "only spaces": blank(b"   \n \n", 2),
    "only a tab": blank(b"\t", 1),
    "only no-break spaces": blank("\xa0\xa0\n".encode(), 1),
    "only ideographic spaces": blank("\u3000\n\u3000".encode(), 2),
    "only zero-width spaces": utf8("\u200b\u200b\n\u200b\n", 2),
    "only a combining mark": utf8("\u0301\n"),
    "blank lines at both ends": utf8("\n\n\ngood text\n\n\n", 6, 5),
    "blank lines with spaces in": utf8("good\n  \t \nmore\n", 3, 1),
    "a thousand and one lines without a blank one": utf8("good text\n" * 1001, 1001),
    "one word": utf8("word"),
    "one character": utf8("x\n"),
}  # fmt: skip

SPACES = {
    "spaces at both ends": utf8("   good text   \n"),
    "runs of spaces": utf8("good     text\n"),
    "tabs between tokens": utf8("good\ttext\t\tmore\n"),
    "no-break space": utf8("good\xa0text 10\xa0000\n"),
    "narrow no-break space": utf8("10\u202f000 «\u202foui\u202f»\n"),
    "zero-width space": utf8("good\u200btext\n"),
    "zero-width joiners of Persian": utf8("می\u200cخواهم کتاب\u200cها\n"),
    "word joiner": utf8("good\u2060text\n"),
    "soft hyphens": utf8("hyphen\xadation of\xadten\n"),
    "ideographic space": utf8("東京\u3000大阪\n"),
    "Mongolian vowel separator": utf8("a\u180eb\n"),
}

UNICODE = {
    "combining marks in heaps": utf8("Z\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307algo" + "\u0336" * 100 + "\n"),
    "composed and decomposed": utf8("caf\u00e9 cafe\u0301\n"),
    "compatibility forms": utf8("ﬁne ｆｕｌｌ ① ² Ⅻ\n"),
    "marks of direction": utf8("\u200eleft \u200fright \u202bembedded\u202c\n"),
    "override of direction": utf8("good \u202etxet\u202c exe\n"),
    "right to left with left to right": utf8("שלום world سلام 123\n"),
    "joined emoji": utf8("👨\u200d👩\u200d👧 👩🏽\u200d🚀\n"),
    "flags and keycaps": utf8("🇩🇪🇫🇷 1\ufe0f\u20e3 #\ufe0f\u20e3\n"),
    "variation selectors": utf8("❤\ufe0f ❤\ufe0e 葛\U000e0100\n"),
    "noncharacters": utf8("a\ufffe b\uffff \U0001fffe\n"),
    "private use": utf8("\ue000 \uf8ff \U000f0000\n"),
    "unassigned": utf8("\u0378 \U000e1fff\n"),
    "astral letters": utf8("𝔊𝔬𝔬𝔡 𐍈 𒀀\n"),
    "dotted and dotless i": utf8("İstanbul ışık\n"),
    "homoglyphs": utf8("pаypаl google\n"),
    "Hangul in parts": utf8("\u1112\u1161\u11ab 한\n"),
    "conjuncts of Devanagari": utf8("क्\u200dष नमस्ते\n"),
    "Thai without spaces": utf8("ภาษาไทยไม่มีช่องว่าง\n"),
    "Chinese without spaces": utf8("我们在这里。他不在！\n"),
    "line of punctuation": utf8("... !!! ??? --- *** ,,,\n"),
    "line of numbers": utf8("1 2.5 3,000 1e-5 0x1F ½\n"),
}

TOKENS = {
    "marks of the model": utf8("<S> good </S> <UNK> <s> <bos> <pad>\n"),
    "words of more than 48 bytes": utf8(f"{'x' * 49} {'é' * 30} good\n"),
    "address of 3,000 characters": utf8(f"see https://example.org/{'a/b?' * 750} here\n"),
    "word with full stops": utf8("a." * 20_000 + "\n"),
    "base64": utf8("QUJD+/=" * 5000 + "\n"),
    "one word in every line": utf8("word\n" * 500, 500),
    "HTML": utf8("<p class='x'>Good <b>text</b></p>\n<!-- -->\n", 2),
    "JSON lines": utf8('{"text": "Good text.", "n": [1, 2]}\n{}\n', 2),
    "CSV": utf8('"text","label"\n"good, ""text""",1\n', 2),
    "code with tabs": utf8("def f():\n\treturn 'x' # \\n\n", 2),
    "line over a piece": utf8("good text " * (PIECE_BYTES // 10 + 100) + "\n"),
    "word over a piece": utf8("é" * (PIECE_BYTES // 2 + 100) + "\n"),
    "line over the bound": Text(
        b"word " * (MAX_LINE_BYTES // 5 + 1),
        Refused("line 1: longer than the maximum of 16,777,216 bytes"),
    ),
}

OTHER_FILES = {
    "gzip": Text(GZIPPED, Taken(1000), name="text.gz"),
    "gzip of two members": Text(gzip.compress(b"good\n") + gzip.compress(b"text\n"), Taken(2), name="text.gz"),
    "gzip with zeros behind": Text(gzip.compress(b"good\n") + bytes(512), Taken(1), name="text.gz"),
    "gzip with other things behind": Text(gzip.compress(b"good\n") + b"more", BROKEN_GZIP, name="text.gz"),
    "gzip cut short": Text(GZIPPED[:-20], BROKEN_GZIP, name="text.gz"),
    "gzip with a wrong checksum": Text(GZIPPED[:-8] + bytes(4) + GZIPPED[-4:], BROKEN_GZIP, name="text.gz"),
    "gzip with a wrong length": Text(GZIPPED[:-4] + bytes(4), BROKEN_GZIP, name="text.gz"),
    "gzip with a flipped bit": Text(GZIPPED[:25] + b"\xff" + GZIPPED[26:], BROKEN_GZIP, name="text.gz"),
    "gzip of nothing": Text(gzip.compress(b""), ALL_BLANK, {"embed": Refused("the file is empty")}, name="text.gz"),
    "gzip without a byte": Text(b"", ALL_BLANK, {"embed": Refused("the file is empty")}, name="text.gz"),
    "gzip of utf-16": not_text(gzip.compress("good".encode("utf-16")), "UTF-16", name="text.gz"),
    "gzip twice": not_text(gzip.compress(GZIPPED), "compressed with gzip", name="text.gz"),
    "gzip without its ending": not_text(GZIPPED, r"compressed with gzip; rename it to end in .gz"),
    "plain with the ending of gzip": Text(b"good text\n", BROKEN_GZIP, name="text.gz"),
    "bzip2": not_text(bz2.compress(b"good text\n"), "compressed with bzip2"),
    "xz": not_text(lzma.compress(b"good text\n"), "compressed with xz"),
    "zstd": not_text(b"\x28\xb5\x2f\xfd\x20\x0agood", "compressed with zstd"),
    "7z": not_text(b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
    "zip": not_text(b"PK\x03\x04\x14\0\0\0", r"a zip archive \(as office documents and .npz files are\)"),
    "PDF": not_text(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
    "RTF": not_text(b"{\\rtf1\\ansi good text}\n", "an RTF document"),
    "old office document": not_text(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "an office document"),
    "PNG": not_text(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
    "JPEG": not_text(b"\xff\xd8\xff\xe0\0\x10JFIF\0", "a JPEG image"),
    "array of NumPy": not_text(b"\x93NUMPY\x01\0v\0{'descr'", "a NumPy array"),
    "HDF5": not_text(b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file"),
    "parquet": not_text(b"PAR1\x15\x04\x15\x10", "a parquet file"),
    "SQLite": not_text(b"SQLite format 3\0\x10\0", "an SQLite database"),
    "program": not_text(b"\x7fELF\x02\x01\x01\0", "an executable"),
    "pickle": nul(b"\x80\x04\x95\x0b\0\0\0", 1),
    "safetensors": nul(b'\x10\0\0\0\0\0\0\0{"a":{"dtype"', 1),
    "sound": nul(b"RIFF\x24\x08\0\0WAVEfmt ", 1),
}  # fmt: skip

TEXTS = {**ENCODINGS, **CONTROLS, **LINE_ENDS, **SPACES, **UNICODE, **TOKENS, **OTHER_FILES}
