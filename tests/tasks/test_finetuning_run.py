import pytest
import torch
from helpers.small_tasks import (
    setup_of,
    span_tags,
    write_classes,
    write_label_sets,
    write_lines,
    write_pairs,
    write_tagged,
    write_vectors,
)

from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.tasks.config import InputConfig
from elmolite.tasks.examples.records import ExampleColumns
from elmolite.tasks.examples.sources import TaskExamples
from elmolite.tasks.finetune import FinetuningRun
from elmolite.tasks.heads import ClassifyConfig, TagConfig


def test_the_examples_determine_labels_and_scheme(tmp_path, model_folder):
    tags = setup_of(model_folder, "tag", train=write_tagged(tmp_path / "a.conll")).description
    assert (tags.labels, tags.scheme, tags.is_multi_label) == (("ba", "ki", "lu"), None, False)
    spans = setup_of(model_folder, "tag", train=write_tagged(tmp_path / "b.conll", span_tags)).description
    assert (spans.labels, spans.scheme) == (("B-K", "B-L", "I-K", "I-L", "O"), "BIO")
    iob1 = write_tagged(tmp_path / "e.conll", lambda words: [tag.replace("B-", "I-") for tag in span_tags(words)])
    iob1.write_text(f"ban\tB-K\nkin\tB-L\n\n{iob1.read_text()}")
    assert setup_of(model_folder, "tag", train=iob1).description.scheme == "IOB1"
    pairs = setup_of(model_folder, "entail", train=write_pairs(tmp_path / "c.tsv")).description
    assert (pairs.task, pairs.labels, pairs.scheme) == ("entail", ("other", "same"), None)
    columns = ExampleColumns(label_separator="|")
    sets = setup_of(model_folder, "classify", train=write_label_sets(tmp_path / "d.tsv"), columns=columns).description
    assert (sets.labels, sets.is_multi_label) == (("ba", "ki"), True)


def state(setup, seed):
    return setup.make_model(seed).state_dict()


def same(a, b):
    return {name for name in a if torch.equal(a[name], b[name])}


def test_the_weights_are_a_function_of_the_seed(tmp_path, model_folder):
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    first = state(setup, 1)
    assert same(first, state(setup, 1)) == set(first)
    equal = same(first, state(setup, 2))
    assert {name for name in first if name.startswith("elmo.")} <= equal
    assert not any(name.startswith("head.") for name in equal)


def test_an_untrained_language_model_is_of_the_same_sizes_at_random(tmp_path, model_folder):
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"), random_init=True)
    pretrained = ELMo.from_pretrained(model_folder)
    first, other = setup.make_model(1).elmo, setup.make_model(2).elmo
    name = "bilm.forward_stack.layers.0.projection_weight"
    name = name if name in first.state_dict() else next(n for n in first.state_dict() if "forward_stack" in n)
    weights = [each.state_dict()[name] for each in (first, other, pretrained, setup.make_model(1).elmo)]
    assert torch.equal(weights[0], weights[3])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].shape == weights[2].shape
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_static_vectors_are_of_the_words_of_train_and_dev(tmp_path, model_folder):
    parts = {name: write_lines(tmp_path / f"{name}.txt", f"x {word}") for name, word in zip(
        ("train", "dev", "test"), ("ban", "kin", "lun"), strict=True)}  # fmt: skip
    vectors = write_vectors(tmp_path / "vectors.txt", ["ban", "bast", "kin", "lun"])
    model = setup_of(model_folder, "classify", **parts, layers="none", static=str(vectors), static_words=0).make_model(
        0
    )
    assert model.inputs.static.words == ["<unk>", "ban", "kin"]
    assert model.elmo is None
    assert not model.inputs.static.weight.requires_grad
    trained = setup_of(model_folder, "classify", **parts, static=str(vectors), train_static=True).make_model(0)
    assert trained.inputs.static.weight.requires_grad
    assert trained.inputs.size == trained.elmo.size + 6
    with_first = setup_of(model_folder, "classify", **parts, layers="none", static=str(vectors), static_words=2)
    assert with_first.make_model(0).inputs.static.words == ["<unk>", "ban", "bast", "kin"]


def test_text_is_tokenized_as_the_model_s_or_split_at_white_space(tmp_path):
    path = write_lines(tmp_path / "a.txt", "yes Don't.", "no b")
    examples = TaskExamples.read("classify", train=path, dev=path)
    options = {"encoder": "mini-en", "inputs": InputConfig(), "head": ClassifyConfig()}
    assert FinetuningRun.build(examples, **options).tokenizer.tokens("Don't.") == ["Do", "n't", "."]
    assert FinetuningRun.build(examples, **options, pretokenized=True).tokenizer.tokens("Don't.") == ["Don't."]


def test_unknown_tasks_and_heads_of_other_tasks_are_refused(tmp_path, model_folder):
    path = write_classes(tmp_path / "a.txt")
    with pytest.raises(InputError, match="unknown task 'clasify'; did you mean 'classify'"):
        TaskExamples.read("clasify", train=path)
    with pytest.raises(InputError, match="head must be a ClassifyConfig for the task classify, got TagConfig"):
        setup_of(model_folder, "classify", train=path, head=TagConfig())
