import copy
import gzip
import pickle
from itertools import islice

import pytest
from helpers.data import SHARED, needs_shared
from hypothesis import example, given, settings, strategies as st
from tokenizers import Tokenizer

from elmolite.data.prepare import tokenize_documents
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.hub import released_models

ENGLISH = SentenceTokenizer.english()
V0_1 = SentenceTokenizer.load(released_models()["mini-en"] / "tokenizer.json")
UNCACHED, UNCACHED_0_1 = copy.copy(ENGLISH), copy.copy(V0_1)
UNCACHED._rules = UNCACHED_0_1._rules = None


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("I don't know.", "I do n't know ."),
        ("It's John's; they'll see, we've won't.", "It 's John 's ; they 'll see , we 've wo n't ."),
        ("I cannot go, gonna stay", "I can not go , gon na stay"),
        ("She paid $1,234.50 (50%)!", "She paid $ 1,234.50 ( 50 % ) !"),
        ("Mr. Smith of the U.S. wrote to a.b@c.org", "Mr. Smith of the U.S. wrote to a.b@c.org"),
        ("See http://example.org/a?b=c.", "See http://example.org/a?b=c ."),
        ("a well-known 'quote' -- and so on...", "a well - known ' quote ' -- and so on ..."),
        ("naïve O’Neil\u2019s 東京", "naïve O’Neil ’s 東京"),
        ("", ""),
    ],
)
def test_tokens(text, tokens):
    assert ENGLISH.tokens(text) == tokens.split()


@pytest.mark.parametrize(
    ("text", "n_sentences"),
    [
        ("One. Two! Three? Four", 4),
        ("Mr. J. Smith met Dr. Jones.", 1),
        ('"Stop!" He ran. "Why?"', 3),
        ("It costs 3. 50 of them came.", 2),
        ("See No. 5 there. No. He did not.", 3),
        ("what a day... nice weather today. he went home", 2),
        ("   ", 0),
    ],
)
def test_sentences(text, n_sentences):
    assert len(ENGLISH.sentences(text)) == n_sentences


WORDS = (
    "Smith I can't cannot gonna Dr. U.S. J. No. (J. É. etc. dept. cent. word words. ok. 5 5. ½ Ⅷ 3.5 8-) www.a.b a@b.c "
    "http://x.y/z. A ß ü Ünder 東京 。 ǅ ... ?! . ! … \" ' “ ” ’ « » ( ) [ ] , ; : = - — _ n't 's \u0301"
)
SPACES = " \n\t\r\f\v\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2003\u200b\u2028\u2029\u3000\ufeff\0\ud800"


@settings(max_examples=1000)
@given(st.lists(st.sampled_from([*WORDS.split(), *SPACES, *" " * 25]) | st.characters(), max_size=14).map("".join))
@example("See No. 5, No.  5 and No.\u2003\n5. No. He")
@example('J. Smith (J. Él J. "X J. 5 J.')
@example('Words. “‘5 words.” ‘He said.)” he words.")) He cent. he dept. he')
def test_text_cut_piece_by_piece_has_the_tokens_of_the_rules(text):
    for cached, uncached in ((ENGLISH, UNCACHED), (V0_1, UNCACHED_0_1)):
        assert cached._rules is not None
        assert cached.tokens(text) == uncached.tokens(text)
        assert cached.sentences(text) == uncached.sentences(text)


@needs_shared
@pytest.mark.parametrize("name", ["books", "speeches", "wikipedia", "wikitext2"])
def test_documents_cut_piece_by_piece_have_the_tokens_of_the_rules(name, monkeypatch):
    monkeypatch.setattr("elmolite.data.tokenization._MAX_CACHED", 1000)
    with gzip.open(SHARED / "lm" / f"{name}.valid.txt.gz", "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in islice(file, 300)]
    for documents in ([lines[:100], [], lines[100:200]], [lines[200:]]):
        expected, found = (tokenize_documents(each, documents) for each in (UNCACHED, ENGLISH))
        assert found.words == expected.words
        assert found.ids.tolist() == expected.ids.tolist()
        assert found.document_lengths.tolist() == expected.document_lengths.tolist()


def test_no_character_is_lost():
    text = "Odd: \u0000\u200b\u00a0 ¿qué? \u4f60\u597d \U0001f600\u0301 tabs\tand\u2028separators"
    joined = "".join(ENGLISH.tokens(text))
    assert joined == "".join(c for c in text if not c.isspace())


def test_whitespace_takes_tokens_as_they_are():
    assert SentenceTokenizer.whitespace().sentences("Mr. X  don't. Go\n") == [["Mr.", "X", "don't.", "Go"]]


@pytest.mark.parametrize("tokenizer", [ENGLISH, SentenceTokenizer.whitespace()])
def test_file_says_all(tmp_path, tokenizer):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer.to_bytes())
    loaded = SentenceTokenizer.load(path)
    text = "Don't stop. It's 5 o'clock, Mr. Bean."
    assert loaded.sentences(text) == tokenizer.sentences(text)
    assert loaded.is_whitespace == tokenizer.is_whitespace
    Tokenizer.from_file(str(path))  # a plain Hugging Face file
    for copied in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert copied.sentences(text) == tokenizer.sentences(text)


def spans(pieces):
    """Return the character spans, white space not counted, of pieces of a text."""
    found, at = set(), 0
    for piece in pieces:
        n = sum(not c.isspace() for c in piece)
        found.add((at, at + n))
        at += n
    return found


def f1(gold, predicted):
    return 2 * sum(len(g & p) for g, p in zip(gold, predicted, strict=True)) / sum(map(len, (*gold, *predicted)))


@needs_shared
def test_quality_against_universal_dependencies():
    """The treebank joins headings and lists into paragraphs without a visible boundary: ends are fairer than spans."""
    paragraphs = []
    with gzip.open(SHARED / "tagging" / "ud_english_ewt.dev.conllu.gz", "rt", encoding="utf-8") as file:
        for line in file:
            if line.startswith(("# newpar", "# newdoc")) and (not paragraphs or paragraphs[-1][0]):
                paragraphs.append(([], []))
            elif line.startswith("# text = "):
                paragraphs[-1][0].append(line.removeprefix("# text = ").rstrip("\n"))
            elif line.split("\t")[0].isdecimal():
                paragraphs[-1][1].append(line.split("\t")[1])
    predicted = [ENGLISH.sentences(" ".join(texts)) for texts, _ in paragraphs]
    tokens = f1([spans(gold) for _, gold in paragraphs], [spans(t for s in p for t in s) for p in predicted])
    gold_sentences = [spans(texts) for texts, _ in paragraphs]
    sentences = [spans("".join(sentence) for sentence in p) for p in predicted]
    ends = f1(*([{end for _, end in p} for p in side] for side in (gold_sentences, sentences)))
    assert tokens >= 0.98
    assert ends >= 0.92
    assert f1(gold_sentences, sentences) >= 0.83
