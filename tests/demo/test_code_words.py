import random
from collections import Counter

import pytest

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.demo.code_words import TaskSize, make_splits, mark, tagged_sentences
from elmolite.demo.docstrings import Module

TOKENIZER = SentenceTokenizer.english()
SIZE = TaskSize(train=120, dev=30, test=40, n_epochs=1)


def paragraph(rng):
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(8)]
    return f"Give {' '.join(words[:4])} `some.name` {' '.join(words[4:])}. A sentence without any code."


@pytest.fixture(scope="module")
def modules():
    rng = random.Random(0)
    return [Module("p", f"m{n}.py", [paragraph(rng) for _ in range(20 if n else 200)]) for n in range(60)]


def test_splits_share_no_module_and_do_not_depend_on_the_order(modules):
    splits = make_splits(modules, TOKENIZER, SIZE)
    assert make_splits(modules[::-1], TOKENIZER, SIZE) == splits
    assert {name: len(sentences) for name, sentences in splits.items()} == {"train": 120, "dev": 30, "test": 40}
    module_of = {sentence.tokens: m.name for m in modules for p in m.paragraphs for sentence in tagged(p)}
    counts = [Counter(module_of[each.tokens] for each in sentences) for sentences in splits.values()]
    assert sum(map(len, counts)) == len(set().union(*counts))
    assert max(max(count.values()) for count in counts) <= 12


def test_splits_share_no_sentence(modules):
    copies = [each._replace(package="copy") for each in modules]
    splits = make_splits([*modules, *copies], TOKENIZER, TaskSize(10_000, 10_000, 10_000, 1))
    tokens = [each.tokens for sentences in splits.values() for each in sentences]
    assert len(set(tokens)) == len(tokens) > 200


def tagged(text):
    return list(tagged_sentences(text, TOKENIZER))


def test_back_ticks_become_tags():
    first, second = tagged("Calls `a.b` and `c``d`. See `Node`.")
    assert first.tokens == ("Calls", "a", ".", "b", "and", "c", "d", ".")
    assert first.tags == ("O", "B-CODE", "I-CODE", "I-CODE", "O", "B-CODE", "B-CODE", "O")
    assert second == (("See", "Node", "."), ("O", "B-CODE", "O"))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [("O B-CODE I-CODE O", "a `b c` d"), ("B-CODE B-CODE O I-CODE", "`a` `b` c `d`"), ("O O O O", "a b c d")],
)
def test_mark(tags, expected):
    assert mark(["a", "b", "c", "d"], tags.split()) == expected
