import json
import shutil

import numpy as np
import pytest
import torch
from helpers.small_tasks import SMALL, setup_of, train, weights_of, write_classes, write_vectors
from torch import nn

from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.tasks.checkpoint import FORMAT_VERSION, TaskCheckpoint, load_custom_head
from elmolite.tasks.config import ClassifyConfig
from elmolite.tasks.predict import evaluate_file
from elmolite.tasks.static_vectors import read_static_vectors
from elmolite.utils import files

pytestmark = pytest.mark.usefixtures("no_pictures", "own_cache")

SENTENCES = [["ban", "kin"], ["lun", "kist", "kive"], ["ban"]]


def trained(folder, encoder, *, n_epochs=1, refers_to_encoder=False, **options):
    run = setup_of(encoder, "classify", train=write_classes(folder / "examples"), **options)
    return train(run, folder / "run", n_epochs=n_epochs, refers_to_encoder=refers_to_encoder)


@pytest.fixture
def encoder(tmp_path, model_folder):
    """A copy of the language model that may be changed."""
    return shutil.copytree(model_folder, tmp_path / "encoder")


@pytest.fixture
def folder(tmp_path, tasks):
    """A copy of a trained classifier with static vectors."""
    return shutil.copytree(tasks["classify"][0].folder, tmp_path / "task")


@pytest.mark.parametrize("name", ["classify", "spans", "entail", "label sets"])
def test_a_saved_task_predicts_the_same(tmp_path, tasks, name):
    first = TaskCheckpoint.from_pretrained(tasks[name][0].folder)
    first.save_pretrained(tmp_path / "again")
    again = TaskCheckpoint.from_pretrained(tmp_path / "again")
    assert (again.description, again.columns) == (first.description, first.columns)
    assert not again.model.training
    sentences = SENTENCES if name != "entail" else [(a, b) for a in SENTENCES for b in SENTENCES]
    for ours, theirs in zip(again.predict(sentences), first.predict(sentences), strict=True):
        assert ours.labels == theirs.labels
        np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)


def test_settings_mixes_and_running_statistics_are_saved(tmp_path, model_folder):
    head = ClassifyConfig(kind="biattentive", **SMALL)
    run = trained(tmp_path, model_folder, head=head, output_mix=True, n_epochs=2)
    checkpoint = TaskCheckpoint.from_pretrained(run.folder)
    assert checkpoint.description.head == head
    assert checkpoint.model.inputs.learnt_mixes() == run.mixes
    assert checkpoint.tokenizer.is_whitespace
    assert checkpoint.model.head.output[0].norm.running_mean.abs().sum() > 0
    assert evaluate_file(run.folder, tmp_path / "examples").value == run.dev.value


def other_model(folder):
    elmo = ELMo.from_pretrained(folder)
    with torch.no_grad():
        next(elmo.parameters()).add_(1)
    shutil.rmtree(folder)
    elmo.save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_model, r"{encoder}/config\.json: damaged, or not the language model that .*model was trained with"),
        (shutil.rmtree, r"{encoder}: no such model folder"),
    ],
)
def test_the_language_model_must_be_the_one_of_the_training(tmp_path, encoder, change, message):
    run = trained(tmp_path, encoder, refers_to_encoder=True)
    assert not (run.folder / "encoder").exists()
    assert TaskCheckpoint.from_pretrained(run.folder, encoder=encoder).predict(SENTENCES)
    with pytest.raises(InputError, match=r"refers to the language model .*: pass its folder"):
        TaskCheckpoint.from_pretrained(run.folder)
    change(encoder)
    with pytest.raises(InputError, match=message.format(encoder=encoder)):
        TaskCheckpoint.from_pretrained(run.folder, encoder=encoder)


def test_a_released_model_is_referred_to_by_its_name(tmp_path):
    run = trained(tmp_path, "mini-en", refers_to_encoder=True)
    assert json.loads((run.folder / "task.json").read_text())["encoder"]["folder"] == "mini-en"
    checkpoint = TaskCheckpoint.from_pretrained(run.folder)
    assert checkpoint.model.elmo.size == 256
    checkpoint.save_pretrained(tmp_path / "half", encoder="mini-en", dtype=torch.float16)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (run.folder, tmp_path / "half")]
    assert sizes[1] < 0.6 * sizes[0]
    half = TaskCheckpoint.from_pretrained(tmp_path / "half").predict(SENTENCES)
    for ours, theirs in zip(half, checkpoint.predict(SENTENCES), strict=True):
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=2e-3)


def test_trained_static_vectors_without_layers(tmp_path, model_folder):
    path = write_vectors(tmp_path / "vectors.txt")
    options = {"layers": "none", "static": str(path), "train_static": True, "static_words": 0}
    run = trained(tmp_path, model_folder, n_epochs=8, **options)
    given = dict(zip(*read_static_vectors(path), strict=True))
    path.unlink()
    model = TaskCheckpoint.from_pretrained(run.folder).model
    static = model.inputs.static
    assert model.elmo is None
    assert not (run.folder / "encoder").exists()
    learnt = zip(static.words[1:], static.weight.detach().numpy()[1:], strict=True)
    assert not any(np.array_equal(vector, given[word]) for word, vector in learnt)
    assert evaluate_file(run.folder, tmp_path / "examples").value == run.dev.value == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: {**content, "format_version": 9}, r"task\.json: format_version 9"),
        (lambda content: {**content, "task": "parse"}, r"task\.json: 'task' must be one of classify, tag, entail"),
        (lambda content: {**content, "labels": "ab"}, r"task\.json: .* and 'labels' a list of names"),
        (lambda content: {**content, "labels": ["a"]}, r"model\.safetensors: tensor 'head\.linear\.bias'"),
        (lambda content: {**content, "head": {"hiden_size": 3}}, r"'head': unknown key 'hiden_size'; did you mean"),
        (lambda content: {**content, "static": {"size": 0}}, r"task\.json: 'columns', 'static' or 'encoder' is"),
    ],
)
def test_a_wrong_manifest_is_explained(folder, change, message):
    content = change(files.read_manifest(folder / "task.json", kind="task", version=FORMAT_VERSION))
    files.write_manifest(folder / "task.json", content)
    with pytest.raises(InputError, match=message):
        TaskCheckpoint.from_pretrained(folder)


def test_a_task_is_found_although_its_replacement_was_interrupted(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "run" / ".model.old")  # and the new one was to be run/model
    expected = TaskCheckpoint.from_pretrained(folder).description
    for path in (tmp_path / "run", tmp_path / "run" / "model"):
        assert TaskCheckpoint.from_pretrained(path).description == expected


def test_predict_takes_strings_tokens_and_pairs(tasks):
    checkpoint = TaskCheckpoint.from_pretrained(tasks["classify"][0].folder.parent)
    assert checkpoint.predict([]) == []
    strings = checkpoint.predict([" ".join(sentence) for sentence in SENTENCES])
    assert [each.labels for each in strings] == [each.labels for each in checkpoint.predict(SENTENCES)]
    with pytest.raises(InputError, match=r"list of sentences, got one string"):
        checkpoint.predict("ban kin")
    with pytest.raises(InputError, match="sentence 1: a sentence without tokens"):
        checkpoint.predict(["ban", "  "])
    pairs = TaskCheckpoint.from_pretrained(tasks["entail"][0].folder)
    for sentence in ("ban kin", ("a", "b", "c"), ("a",)):
        with pytest.raises(InputError, match="sentence 1 must be a pair of sentences: premise and hypothesis"):
            pairs.predict([("ban", "kin"), sentence])


class Centroid(nn.Module):
    """A custom head, written for version 0.1."""

    def __init__(self, size, n_labels):
        super().__init__()
        self.linear = nn.Linear(size, n_labels)

    def forward(self, words):
        return self.linear(words.vectors.sum(dim=1))


def test_a_custom_head(tmp_path, model_folder, folder):
    run = trained(tmp_path, model_folder, head=Centroid, n_epochs=8)
    assert run.dev.value == 1
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["head"] is None
    checkpoint = TaskCheckpoint.from_pretrained(run.folder, head=Centroid)
    assert isinstance(checkpoint.model.head, Centroid)
    assert [each.labels for each in checkpoint.predict([["ban"], ["kin"]])] == [("left",), ("right",)]
    with pytest.raises(InputError, match=r"has a custom head: pass its factory as `head`"):
        TaskCheckpoint.from_pretrained(run.folder)
    with pytest.raises(InputError, match="has no custom head"):
        TaskCheckpoint.from_pretrained(folder, head=Centroid)


def test_the_words_of_version_0_1_are_deprecated():
    with pytest.warns(FutureWarning, match=r"tasks\.words\.Words is deprecated .*; use elmolite\.TokenFeatures"):
        from elmolite.tasks.words import Words
    from elmolite import TokenFeatures

    assert Words is TokenFeatures


def test_a_custom_head_of_a_file(tmp_path):
    path = tmp_path / "heads.py"
    path.write_text("from torch.nn import Linear\nclass Head(Linear): ...\ndef make(i, o): return Head(i, 2 * o)\n")
    for name, n_outputs in (("Head", 3), ("make", 6)):
        head = load_custom_head(f"{path}:{name}")(4, 3)
        assert (head.in_features, head.out_features) == (4, n_outputs)
    (tmp_path / "bad.py").write_text("import nowhere_at_all")
    for reference, message in (
        ("heads", "expected FILE.py:NAME"),
        (f"{tmp_path}/nowhere.py:Head", r"nowhere\.py: no such file .custom head .*nowhere\.py:Head."),
        (f"{path}:Haed", "no class or function 'Haed'; did you mean 'Head'"),
        (f"{tmp_path}/bad.py:Head", "bad.py fails: ModuleNotFoundError: No module named"),
    ):
        with pytest.raises(InputError, match=message):
            load_custom_head(str(reference))


def test_an_earlier_task_is_replaced_only_when_asked(folder, tasks):
    checkpoint = TaskCheckpoint.from_pretrained(folder)
    with pytest.raises(InputError, match="exists already"):
        checkpoint.save_pretrained(folder)
    checkpoint.save_pretrained(folder, overwrite=True)
    assert (folder / "model.safetensors").read_bytes() == weights_of(tasks["classify"][0])
