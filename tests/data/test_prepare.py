import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import accumulate

import numpy as np
import pytest
from helpers.data import make_corpus, random_sentences, write_sentences
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from elmolite.data.indexers import ByteIndexer
from elmolite.data.prepare import prepare, tokenize_documents, tokenize_in_parallel
from elmolite.data.tokenization import SentenceTokenizer
from elmolite.data.vocab import UNKNOWN_ID, Vocabulary
from elmolite.errors import InputError

WHITESPACE = SentenceTokenizer.whitespace()


@pytest.fixture
def small_tasks(monkeypatch):
    monkeypatch.setattr("elmolite.data.prepare._TASK_CHARACTERS", 3000)


def text_of(corpus, split):
    return corpus.sentences(split, split.n_sentences)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_corpus_equals_plain_counting(tmp_path, small_tasks, n_workers):
    rng = random.Random(4)
    sentences = [
        ["".join(rng.choices("abcdé😀", k=rng.randint(1, 5))) for _ in range(rng.randint(1, 9))] for _ in range(2000)
    ]
    corpus = make_corpus(tmp_path, sentences, n_workers=n_workers, hold_out=False, min_count=3, vocab_size=200)
    counts = Counter(word for sentence in sentences for word in sentence)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    frequent = [word for word in words if counts[word] >= 3][:197]
    number = {word: i for i, word in enumerate(words, start=2)}
    assert text_of(corpus, corpus.train) == sentences
    assert corpus.valid.n_tokens == 0
    assert corpus.words()[2:] == words
    assert list(corpus.train.tokens) == [i for s in sentences for i in (0, *(number[word] for word in s))]
    assert list(corpus.train.sentences) == [0, *accumulate(len(s) + 1 for s in sentences)]
    assert list(corpus.train.documents) == list(range(0, 2001, 10))
    assert corpus.vocabulary.words[3:] == frequent
    assert corpus.vocabulary.counts[3:] == [counts[word] for word in frequent]
    n_unknown = sum(counts.values()) - sum(counts[word] for word in frequent)
    assert corpus.vocabulary.counts[UNKNOWN_ID] == corpus.summary["train"]["unknown_tokens"] == n_unknown
    assert list(corpus.vocab_ids) == [0, 1, *corpus.vocabulary.ids(words)]
    assert np.array_equal(corpus.rows(slice(2, None), "characters"), ByteIndexer().rows(words))


def test_every_hundredth_document_is_validation_text_and_not_counted(tmp_path, monkeypatch):
    sentences = [[f"w{i}", "common"] for i in range(250)]
    text = write_sentences(tmp_path / "text.txt", sentences, document_every=1)
    corpus = prepare([str(text)], tmp_path / "c", tokenizer=WHITESPACE, show_progress=False)
    assert text_of(corpus, corpus.valid) == [sentences[99], sentences[199]]
    assert corpus.vocabulary.id("w99") == UNKNOWN_ID
    assert corpus.vocabulary.counts[corpus.vocabulary.id("common")] == 248
    assert corpus.summary["valid"]["unknown_tokens"] == 2
    monkeypatch.setattr("elmolite.data.corpus_writer.MAX_VALIDATION_TOKENS", 5)
    corpus = prepare([str(text)], tmp_path / "shorter", tokenizer=WHITESPACE, show_progress=False)
    assert text_of(corpus, corpus.valid) == [sentences[99]]
    assert corpus.train.n_sentences == 249


def test_of_few_documents_the_end_is_validation_text_unless_some_is_given(tmp_path):
    sentences = random_sentences(500)
    corpus = make_corpus(tmp_path, sentences)  # 50 documents
    assert 1 <= corpus.valid.n_sentences <= 10
    assert text_of(corpus, corpus.train) + text_of(corpus, corpus.valid) == sentences
    for split in (corpus.train, corpus.valid):
        assert (split.documents[0], split.documents[-1]) == (0, split.n_sentences)
        assert (np.diff(split.documents) > 0).all()
    valid = write_sentences(tmp_path / "valid.txt", [["only", "here"]])
    corpus = make_corpus(tmp_path / "given", sentences, valid=[str(valid)])
    assert text_of(corpus, corpus.valid) == [["only", "here"]]
    assert corpus.train.n_sentences == 500
    assert corpus.vocabulary.id("here") == UNKNOWN_ID


def test_a_given_vocabulary_keeps_its_order_and_takes_new_counts(tmp_path):
    given = Vocabulary(["<S>", "</S>", "<UNK>", "absent", "luly", "ban"], [0] * 6)
    corpus = make_corpus(tmp_path, random_sentences(100), vocabulary=given, hold_out=False)
    assert corpus.vocabulary.words == given.words
    assert corpus.vocabulary.counts[3:5] == [0, sum(s.count("luly") for s in random_sentences(100))]


def test_the_share_of_cut_words_is_given_for_both_kinds_of_characters(tmp_path):
    sentences = [["x" * 49, "short"], ["ж" * 25], ["short"]] * 3  # 49 letters; 50 bytes
    corpus = make_corpus(tmp_path, sentences, hold_out=False)
    assert corpus.summary["cut_share"] == {"bytes": 6 / 12, "unicode": 3 / 12}
    assert "cuts 50.00% of the tokens as bytes, 25.00% as Unicode characters" in corpus.describe()


def test_unicode_characters_come_from_the_training_text_or_a_model(tmp_path):
    sentences = [["λόγος", "ab"], ["λόγος"]] * 4 + [["ψ"]]
    corpus = make_corpus(tmp_path / "a", sentences, hold_out=False, characters="unicode", min_character_count=4)
    known = corpus.characters.characters
    assert set(known) == set("λόγοςab")
    number = np.array([corpus.words().index("ψ")])
    assert corpus.rows(number, "characters")[0, :3].tolist() == [259, 262, 260]
    second = make_corpus(tmp_path / "b", [["όψb"]] * 9, hold_out=False, characters=corpus.characters)
    assert second.characters.characters == known
    row = second.rows(np.array([2]), "characters")[0, :5].tolist()
    assert row == [259, 263 + known.index("ό"), 262, 263 + known.index("b"), 260]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_character_count": 3}, "min_character_count requires `characters='unicode'`"),
        ({"characters": "utf-16"}, "characters must be bytes or unicode, got 'utf-16'"),
        ({"vocab_size": 3}, "vocab_size must be at least 4, got 3"),
        ({"n_workers": 0}, "n_workers must be positive, got 0"),
        ({"min_count": 0}, "min_count must be positive, got 0"),
        ({"vocab_size": 9, "vocabulary": Vocabulary(["<S>", "</S>", "<UNK>"], [0] * 3)}, "with a given vocabulary"),
    ],
)
def test_invalid_options_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        make_corpus(tmp_path, [["a"]] * 5, **options)


def test_lone_surrogates_are_replaced_by_question_marks():
    assert tokenize_documents(WHITESPACE, [["a\ud800b a?b c"]]).words == ["a?b", "c"]


def test_a_tokenizer_that_leaves_line_ends_in_tokens_is_refused():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(".", ".\n")
    tokenizer.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    with pytest.raises(InputError, match=r"the tokenizer leaves a line end in the token 'end\.\\nNow'"):
        tokenize_documents(SentenceTokenizer(tokenizer), [["The end.Now"]])


def test_tasks_are_read_as_workers_need_them(monkeypatch):
    monkeypatch.setattr("elmolite.data.prepare._TASK_CHARACTERS", 1)
    n_read = 0

    def documents():
        nonlocal n_read
        for n_read in range(1, 101):
            yield [f"w{n_read}"]

    for number, part in enumerate(tokenize_in_parallel(documents(), WHITESPACE, n_workers=2), start=1):
        assert part.words == [f"w{number}"]  # in order
        assert n_read <= number + 2 * 2 + 1
    assert number == n_read == 100


SCRIPT = """
import os, signal, sys, threading
from elmolite.data import prepare
prepare._TASK_CHARACTERS = 2000
documents = ["The text of one page."] * 20, ["That of another."] * 500, ["The end."]
if sys.argv[1:]:
    end = {"interrupt": lambda: os.killpg(0, signal.SIGINT), "kill": lambda: os.kill(os.getpid(), signal.SIGKILL)}
    threading.Timer(4, end[sys.argv[1]]).start()
    documents = (["The same page again and again."] * 500 for _ in iter(int, 1))
parts = prepare.tokenize_in_parallel(documents, prepare.SentenceTokenizer.english(), n_workers=2)
print(sum(part.n_bytes for part in parts))
"""


@pytest.mark.multiprocess
@pytest.mark.parametrize("end", ["", "interrupt", "kill"])
def test_a_script_needs_no_main_guard_and_its_workers_end_with_it(tmp_path, end):
    (tmp_path / "script.py").write_text(SCRIPT)
    with (tmp_path / "said").open("w+") as said:
        command = [sys.executable, "script.py", *end.split()]
        script = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True)
        code = script.wait(timeout=120)
        said.seek(0)
        if end:
            assert code == {"interrupt": -signal.SIGINT, "kill": -signal.SIGKILL}[end]
        else:
            assert (code, said.read()) == (0, f"{20 * 22 + 500 * 17 + 9}\n")
    with pytest.raises(ProcessLookupError):  # no process of its group is left
        for _ in range(60):
            os.killpg(script.pid, 0)
            time.sleep(0.5)
