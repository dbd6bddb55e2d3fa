import random
from collections import Counter

import pytest

from elmolite.data.tokenization import SentenceTokenizer
from elmolite.demo.docstrings import Docstring, Module
from elmolite.demo.examples import (
    OTHER,
    SAME,
    Amounts,
    code_examples,
    cut,
    package_examples,
    pair_examples,
    tags_by_rule,
)

TOKENIZER = SentenceTokenizer.english()
AMOUNTS = Amounts(train=120, dev=30, test=40, n_packages=2)


def sentence(rng, *, code=""):
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(8)]
    return f"Give {' '.join(words[:4])} {code} {' '.join(words[4:])}.".replace("  ", " ")


def make_modules(n=60, *, packages=("alpha", "betatron", "gamma"), n_functions=6):
    """Modules whose functions have a summary and two more sentences, in one of which something is code."""
    rng = random.Random(0)

    def function():
        texts = [sentence(rng), f"{sentence(rng, code='`some.name`')} {sentence(rng)}"]
        return Docstring(texts, has_summary=True, is_function=True)

    return [
        Module(package, f"m{number}.py", [function() for _ in range(n_functions)])
        for package in packages
        for number in range(n)
    ]


def parts(examples):
    return {"train": examples.train, "dev": examples.dev, "test": examples.test}


def said(examples):
    return [{sentence for each in part for sentence in each.sentences} for part in parts(examples).values()]


@pytest.fixture(scope="module")
def modules():
    return make_modules()


@pytest.mark.parametrize("make", [package_examples, code_examples, pair_examples])
def test_no_module_and_no_sentence_is_in_two_parts(modules, make):
    examples = make(modules, TOKENIZER, AMOUNTS)
    for all_parts in (said(examples), [{each.place for each in part} for part in parts(examples).values()]):
        assert all(all_parts)
        assert sum(map(len, all_parts)) == len(set.union(*all_parts))
    assert {name: len(part) for name, part in parts(examples).items()} == {"train": 120, "dev": 30, "test": 40}


@pytest.mark.parametrize("make", [package_examples, code_examples, pair_examples])
def test_the_order_of_the_modules_changes_nothing(modules, make):
    assert make(modules[::-1], TOKENIZER, AMOUNTS) == make(modules, TOKENIZER, AMOUNTS)


@pytest.mark.parametrize("make", [package_examples, code_examples, pair_examples])
def test_a_sentence_that_is_much_like_another_is_used_once(make):
    def changed(text, number):
        return text.replace("Give", "give").replace("one", str(number))

    rng = random.Random(1)
    text = f"Give one {sentence(rng, code='`name`')}"
    later = f"Give one {sentence(rng)}"
    same = [
        Module("p", f"{number}.py", [Docstring([changed(text, number), changed(later, number)], True, True)])
        for number in range(50)
    ]
    examples = make([*make_modules(packages=("p", "q")), *same], TOKENIZER, Amounts(1000, 1000, 1000, n_packages=2))
    word = text.split()[-2]
    assert sum(word in tokens for part in said(examples) for tokens in part) <= 1


@pytest.mark.parametrize("make", [package_examples, code_examples, pair_examples])
def test_a_large_module_is_no_large_part_of_the_examples(make):
    (large,) = make_modules(1, packages=("p",), n_functions=200)
    modules = [*make_modules(packages=("p", "q")), large._replace(name="large.py")]
    examples = make(modules, TOKENIZER, Amounts(1000, 1000, 1000))
    for part in parts(examples).values():
        assert max(Counter(each.place for each in part).values()) <= 24


def test_packages_are_the_largest_and_have_equally_many_lines():
    modules = [*make_modules(60, packages=("alpha", "betatron")), *make_modules(15, packages=("gamma",))]
    examples = package_examples(modules, TOKENIZER, Amounts(10_000, 10_000, 10_000, n_packages=2))
    for part in parts(examples).values():
        counts = Counter(each.labels for each in part)
        assert set(counts) == {("alpha",), ("betatron",)}
        assert len(set(counts.values())) == 1


@pytest.mark.parametrize("given_away", ["Alpha", "betatron", "BetatronError", "gamma_x", "delta", "nx", "Python"])
def test_a_line_that_names_a_package_is_left_out(given_away):
    rng = random.Random(2)
    modules = make_modules(packages=("alpha", "betatron", "gamma_delta", "networkx"))
    named = [
        module._replace(docstrings=[Docstring([sentence(rng, code=given_away)], True, True), *module.docstrings])
        for module in modules
    ]
    examples = package_examples(named, TOKENIZER, AMOUNTS)
    assert examples.train
    assert not any(given_away in tokens for part in said(examples) for tokens in part)


def test_tags_are_what_the_author_marked_and_the_back_ticks_are_gone(modules):
    examples = code_examples(modules, TOKENIZER, AMOUNTS)
    for example in examples.train:
        (tokens,) = example.sentences
        assert "`" not in "".join(tokens)
        marked = [token for token, tag in zip(tokens, example.labels, strict=True) if tag != "O"]
        assert marked == ["some", ".", "name"]
        assert [tag for tag in example.labels if tag != "O"] == ["B-CODE", "I-CODE", "I-CODE"]


def test_pairs_of_a_function_and_of_two_functions_of_one_module(modules):
    examples = pair_examples(modules, TOKENIZER, AMOUNTS)
    functions = {}
    for module in modules:
        for number, docstring in enumerate(module.docstrings):
            for paragraph in docstring.paragraphs:
                for each in cut(paragraph, TOKENIZER):
                    functions[each.tokens] = (module.package, module.name, number)
    for part in parts(examples).values():
        for example in part:
            first, second = (functions[each] for each in example.sentences)
            assert first[:2] == second[:2]
            assert example.labels == ((SAME,) if first == second else (OTHER,))


def test_no_sentence_of_a_pair_says_by_itself_which_kind_it_is(modules):
    for part in parts(pair_examples(modules, TOKENIZER, AMOUNTS)).values():
        for side in (0, 1):
            kinds = {}
            for example in part:
                kinds.setdefault(example.sentences[side], []).extend(example.labels)
            assert all(sorted(each) == sorted([SAME, OTHER]) for each in kinds.values())


def test_classes_and_functions_without_a_summary_make_no_pairs():
    modules = [
        module._replace(docstrings=[each._replace(**change) for each in module.docstrings])
        for change in ({"is_function": False}, {"has_summary": False})
        for module in make_modules(10)
    ]
    examples = pair_examples(modules, TOKENIZER, AMOUNTS)
    assert not examples.train + examples.dev + examples.test


def test_sentences_of_a_paragraph_and_what_is_code_in_them():
    first, second = cut("Calls `a.b` and `c``d`. See `Node`s.", TOKENIZER)
    assert first.tokens == ("Calls", "a", ".", "b", "and", "cd", ".")
    assert first.tags == ("O", "B-CODE", "I-CODE", "I-CODE", "O", "B-CODE", "O")
    assert second == (("See", "Nodes", "."), ("O", "B-CODE", "O"))


def test_what_is_behind_a_character_that_is_no_text_is_left_out():
    (first,) = cut("The first one. The \ud800 one. The `third` one.", TOKENIZER)
    assert first.tokens == ("The", "first", "one", ".")


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("the max_size of it .", "O B-CODE O O O"),
        ("a torch . nn . Linear layer .", "O B-CODE I-CODE I-CODE I-CODE I-CODE O O"),
        ("call f ( ) or x [ 0 ] now .", "O B-CODE I-CODE I-CODE O B-CODE I-CODE I-CODE I-CODE O O"),
        ("the value ( if any ) of axis .", "O O O O O O O O O"),
    ],
)
def test_the_rule_tags_what_looks_like_code(tokens, expected):
    assert tags_by_rule(tokens.split()) == tuple(expected.split())
