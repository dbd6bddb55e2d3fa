import json
import shutil

import numpy as np
import pytest
import torch
from small_tasks import SMALL, setup_of, span_tags, train, write_classes, write_pairs, write_tagged, write_vectors
from torch import nn

from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.tasks.checkpoint import FORMAT_VERSION, TaskCheckpoint
from elmolite.tasks.heads import ClassifyConfig
from elmolite.tasks.predict import evaluate_file
from elmolite.utils import files

pytestmark = pytest.mark.usefixtures("no_pictures", "own_cache")

WRITERS = {
    "classify": write_classes,
    "tag": lambda path: write_tagged(path, span_tags),
    "entail": write_pairs,
}
SENTENCES = [["ban", "kin"], ["lun", "kist", "kive"], ["ban"]]


def trained(folder, encoder, task="classify", *, n_epochs=1, refers_to_encoder=False, **options):
    """Train on few examples, and return the run."""
    setup = setup_of(encoder, task, train=WRITERS[task](folder / "examples"), **options)
    return train(setup, folder / "run", n_epochs=n_epochs, refers_to_encoder=refers_to_encoder)


@pytest.fixture
def encoder(tmp_path, model_folder):
    """A copy that may be changed."""
    return shutil.copytree(model_folder, tmp_path / "encoder")


def assert_same(a, b):
    assert a
    for ours, theirs in zip(a, b, strict=True):
        assert ours.labels == theirs.labels
        np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)


@pytest.mark.parametrize("refers_to_encoder", [False, True])
@pytest.mark.parametrize("task", WRITERS)
def test_saved_and_read_it_predicts_the_same(tmp_path, model_folder, task, refers_to_encoder):
    folder = trained(tmp_path, model_folder, task, refers_to_encoder=refers_to_encoder).folder
    assert (folder / "encoder").exists() == (not refers_to_encoder)
    where = {"encoder": model_folder} if refers_to_encoder else {}
    first = TaskCheckpoint.from_pretrained(folder, **where)
    sentences = SENTENCES if task != "entail" else [(a, b) for a in SENTENCES for b in SENTENCES]
    predictions = first.predict(sentences)
    first.save_pretrained(tmp_path / "again", **where)
    again = TaskCheckpoint.from_pretrained(tmp_path / "again", **where)
    assert again.description == first.description
    assert_same(again.predict(sentences), predictions)
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == sorted(p.name for p in folder.iterdir())
    assert not first.model.training
    for sentence, prediction in zip(sentences, predictions, strict=True):
        assert prediction.probabilities.sum(axis=-1) == pytest.approx(1)
        if task == "tag":
            assert len(prediction.labels) == len(sentence)


def test_all_that_was_set_is_read_again(tmp_path, model_folder):
    head = ClassifyConfig(kind="biattentive", **SMALL)
    run = trained(tmp_path, model_folder, head=head, mixes_at_output=True, n_epochs=2)
    checkpoint = TaskCheckpoint.from_pretrained(run.folder)
    assert checkpoint.description.head == head
    assert checkpoint.description.inputs.mixes_at_output
    assert checkpoint.description.labels == ("left", "right")
    assert checkpoint.model.inputs.learnt_mixes() == run.mixes
    assert checkpoint.tokenizer.is_whitespace
    norm = checkpoint.model.head.output[0].norm
    assert norm.running_mean.abs().sum() > 0
    assert evaluate_file(run.folder, tmp_path / "examples").value == run.dev.value


def test_a_copied_language_model_makes_the_folder_whole(tmp_path, encoder):
    run = trained(tmp_path, encoder)
    expected = TaskCheckpoint.from_pretrained(run.folder).predict(SENTENCES)
    shutil.rmtree(encoder)
    assert_same(TaskCheckpoint.from_pretrained(run.folder.rename(tmp_path / "elsewhere")).predict(SENTENCES), expected)


def other_model(folder):
    elmo = ELMo.from_pretrained(folder)
    with torch.no_grad():
        next(elmo.parameters()).add_(1)
    shutil.rmtree(folder)
    elmo.save_pretrained(folder)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, r"{encoder}: no such model folder"),
        (other_model, r"{encoder}/config\.json: is another language model than the one that .*model was trained with"),
        (lambda folder: flip(folder / "model.safetensors"), r"{encoder}/model\.safetensors is damaged"),
        (lambda folder: (folder / "config.json").unlink(), r"{encoder}/config\.json is missing: the language model of"),
    ],
)
@pytest.mark.parametrize("refers_to_encoder", [False, True])
def test_a_language_model_that_is_another_or_gone_is_named(tmp_path, encoder, refers_to_encoder, change, message):
    run = trained(tmp_path, encoder, refers_to_encoder=refers_to_encoder)
    where = encoder if refers_to_encoder else run.folder / "encoder"
    change(where)
    if change is shutil.rmtree and not refers_to_encoder:
        message = r"{encoder}/config\.json is missing"
    with pytest.raises(InputError, match=message.format(encoder=where)):
        TaskCheckpoint.from_pretrained(run.folder, encoder=encoder if refers_to_encoder else None)


def test_a_trained_language_model_is_copied_though_it_was_to_be_referred_to(tmp_path, model_folder):
    setup = setup_of(model_folder, "classify", train=write_classes(tmp_path / "a.txt"))
    run = train(setup, tmp_path / "run", n_epochs=1, encoder_training="all", refers_to_encoder=True)
    assert (run.folder / "encoder").is_dir()


def test_a_released_model_is_referred_to_by_its_name(tmp_path):
    run = trained(tmp_path, "mini-en", refers_to_encoder=True)
    assert json.loads((run.folder / "task.json").read_text())["encoder"]["folder"] == "mini-en"
    assert TaskCheckpoint.from_pretrained(run.folder).model.elmo.size == 256


@pytest.mark.parametrize("is_trained", [False, True])
@pytest.mark.parametrize("layers", ["none", "mix"])
def test_static_vectors_are_saved_and_read(tmp_path, model_folder, layers, is_trained):
    path = write_vectors(tmp_path / "vectors.txt")
    options = {
        "layers": layers,
        "static": str(path),
        "train_static": is_trained,
        "static_words": 0,
        "normalization": "standard" if layers == "mix" else "layer",
    }
    run = trained(tmp_path, model_folder, n_epochs=8, **options)
    assert run.dev.value == 1
    path.unlink()
    model = TaskCheckpoint.from_pretrained(run.folder).model
    static = model.inputs.static
    assert (model.elmo is None) == (layers == "none")
    assert (run.folder / "encoder").exists() == (layers == "mix")
    assert static.weight.requires_grad == is_trained
    given = write_vectors(tmp_path / "again.txt").read_text().splitlines()
    vectors = {line.split()[0]: torch.tensor([float(x) for x in line.split()[1:]]) for line in given}
    is_as_given = [torch.equal(static.weight[static.ids.id(word)], vectors[word]) for word in static.ids.words[1:]]
    assert len(is_as_given) >= 8
    assert not any(is_as_given) if is_trained else all(is_as_given)
    assert evaluate_file(run.folder, tmp_path / "examples").value == 1


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "static_words.txt", "encoder/tokenizer.json"])
@pytest.mark.parametrize(
    ("change", "message"), [(cut, "bytes, expected"), (flip, "is damaged"), (lambda path: path.unlink(), "is missing")]
)
def test_a_damaged_file_is_named(tmp_path, whole, name, change, message):
    folder = shutil.copytree(whole, tmp_path / "task")
    change(folder / name)
    with pytest.raises(InputError, match=f"{folder / name}.*{message}"):
        TaskCheckpoint.from_pretrained(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model_folder):
    folder = tmp_path_factory.mktemp("task")
    static = str(write_vectors(folder / "vectors.txt"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmolite.tasks.finetune._draw", lambda *of_the_run: None)
        return trained(folder, model_folder, static=static).folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: "{", r"task\.json: not a readable JSON file"),
        (lambda content: {**content, "format_version": 9}, r"task\.json: format_version 9"),
        (lambda content: {**content, "task": "parse"}, r"task\.json: 'task' must be one of classify, tag, entail"),
        (lambda content: {**content, "labels": "ab"}, r"task\.json: 'labels' must be a list of names"),
        (lambda content: {**content, "labels": []}, r"task\.json: 'labels' must be a list of names"),
        (lambda content: {**content, "labels": ["a", "a"]}, r"task\.json: a name stands twice among the 'labels'"),
        (lambda content: {**content, "columns": {"encoding": "a\0b"}}, r"task\.json: encoding: unknown"),
        (lambda content: {**content, "labels": ["a"]}, r"model\.safetensors: tensor 'head\.linear\.bias'"),
        (lambda content: {**content, "inputs": 3}, r"task\.json, 'inputs' must be an object"),
        (lambda content: {**content, "head": {"hiden_size": 3}}, r"'head': unknown key 'hiden_size'; did you mean"),
        (lambda content: {**content, "head": {"dropout": 7}}, r"task\.json, 'head': head\.dropout: 7"),
        (lambda content: {k: v for k, v in content.items() if k != "encoder"}, r"task\.json: 'encoder' is missing"),
        (lambda content: {k: v for k, v in content.items() if k != "static"}, r"task\.json: 'static' is missing"),
    ],
)
def test_a_manifest_that_says_something_else_is_explained(tmp_path, whole, change, message):
    folder = shutil.copytree(whole, tmp_path / "task")
    content = change(files.read_manifest(folder / "task.json", kind="task", version=FORMAT_VERSION))
    if isinstance(content, str):
        (folder / "task.json").write_text(content)
    else:
        files.write_manifest(folder / "task.json", content)
    with pytest.raises(InputError, match=message):
        TaskCheckpoint.from_pretrained(folder)


def test_a_task_is_found_though_a_process_was_killed_while_it_replaced_it(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run" / ".model.old")  # and the new one was to be run/model
    expected = TaskCheckpoint.from_pretrained(whole).description
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        assert TaskCheckpoint.from_pretrained(folder).description == expected


def test_the_folder_of_the_run_will_do(whole):
    assert TaskCheckpoint.from_pretrained(whole.parent).description == TaskCheckpoint.from_pretrained(whole).description
    with pytest.raises(InputError, match="nowhere: no such task folder"):
        TaskCheckpoint.from_pretrained("nowhere")


def test_what_is_predicted(whole):
    checkpoint = TaskCheckpoint.from_pretrained(whole)
    assert checkpoint.predict([]) == []
    strings = checkpoint.predict([" ".join(sentence) for sentence in SENTENCES])
    for ours, theirs in zip(strings, checkpoint.predict(SENTENCES), strict=True):
        assert ours.labels == theirs.labels
    with pytest.raises(InputError, match="one string was given where a list"):
        checkpoint.predict("ban kin")
    with pytest.raises(InputError, match="sentence 1: a sentence without words"):
        checkpoint.predict(["ban", "  "])


@pytest.mark.parametrize("sentences", [["ban kin"], [("a", "b", "c")], [("a",)]])
def test_a_pair_is_a_pair(tmp_path, model_folder, sentences):
    checkpoint = TaskCheckpoint.from_pretrained(trained(tmp_path, model_folder, "entail").folder)
    with pytest.raises(InputError, match="sentence 1: expected a pair of sentences"):
        checkpoint.predict([("ban", "kin"), *sentences])


class Centroid(nn.Module):
    """A head of one's own."""

    def __init__(self, size, n_labels):
        super().__init__()
        self.linear = nn.Linear(size, n_labels)

    def forward(self, words):
        return self.linear(words.vectors.sum(dim=1))


def test_a_head_of_one_s_own(tmp_path, model_folder):
    run = trained(tmp_path, model_folder, head=Centroid, n_epochs=8)
    assert run.dev.value == 1
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["head"] is None
    checkpoint = TaskCheckpoint.from_pretrained(run.folder, head=Centroid)
    assert isinstance(checkpoint.model.head, Centroid)
    assert [each.labels for each in checkpoint.predict([["ban"], ["kin"]])] == [("left",), ("right",)]
    with pytest.raises(InputError, match=r"this task has a head of your own: say what makes it, from_pretrained"):
        TaskCheckpoint.from_pretrained(run.folder)


def test_a_task_with_a_head_of_its_own_takes_no_other(whole):
    with pytest.raises(InputError, match="has a head of its own, give none"):
        TaskCheckpoint.from_pretrained(whole, head=Centroid)


def test_only_an_earlier_task_is_replaced(tmp_path, whole):
    checkpoint = TaskCheckpoint.from_pretrained(whole)
    folder = shutil.copytree(whole, tmp_path / "task")
    with pytest.raises(InputError, match="exists already"):
        checkpoint.save_pretrained(folder)
    checkpoint.save_pretrained(folder, overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="contains files elmolite did not write"):
        checkpoint.save_pretrained(tmp_path / "other", overwrite=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
