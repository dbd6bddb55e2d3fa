import pytest
import torch
from helpers.models import make_bilm, small_config
from safetensors.torch import load_file

from elmolite.checkpoint import FORMAT_VERSION, Checkpoint, read_config
from elmolite.cli.main import main
from elmolite.data.indexers import UnicodeIndexer, WordIndexer
from elmolite.data.vocab import Vocabulary
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError
from elmolite.nn.softmax import AdaptiveSoftmax, FullSoftmax
from elmolite.utils import files


def edit(folder, change):
    config = files.read_manifest(folder / "config.json", kind="model", version=FORMAT_VERSION)
    change(config)
    files.write_manifest(folder / "config.json", config)


@pytest.fixture
def checkpoint(corpus):
    torch.manual_seed(5)
    config = small_config(cell_clip=None, activation="tanh", forget_bias=0.0)
    softmax = FullSoftmax(vocabulary_size=len(corpus.vocabulary), projection_size=config.projection_size)
    return Checkpoint(make_bilm(config), corpus.tokenizer, corpus.characters, softmax, corpus.vocabulary, {"step": 7})


@pytest.mark.parametrize("is_adaptive", [False, True])
def test_reads_back_what_was_saved(tmp_path, checkpoint, is_adaptive):
    if is_adaptive:
        sizes = {"vocabulary_size": len(checkpoint.vocabulary), "projection_size": 12}
        checkpoint.softmax = AdaptiveSoftmax(**sizes, cutoffs=(3, 20), sizes=(9, 5))
    checkpoint.save_pretrained(tmp_path / "model")
    loaded = Checkpoint.from_pretrained(tmp_path / "model").to(torch.device("cpu"))
    assert loaded.bilm.config == checkpoint.bilm.config
    assert loaded.softmax.config() == checkpoint.softmax.config()
    for ours, theirs in ((loaded.bilm, checkpoint.bilm), (loaded.softmax, checkpoint.softmax)):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert loaded.vocabulary.words == checkpoint.vocabulary.words
    assert loaded.vocabulary.counts == checkpoint.vocabulary.counts
    assert loaded.tokenizer.is_whitespace
    assert loaded.training == {"step": 7}
    assert not loaded.bilm.training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_disk_is_float32_in_memory_and_kept_when_saved_again(tmp_path, checkpoint, dtype):
    checkpoint.save_pretrained(tmp_path / "half", dtype=dtype)
    loaded = Checkpoint.from_pretrained(tmp_path / "half")
    for ours, theirs in zip(loaded.bilm.parameters(), checkpoint.bilm.parameters(), strict=True):
        assert torch.equal(ours, theirs.to(dtype).float())
    loaded.save_pretrained(tmp_path / "again")
    elmo = ELMo.from_pretrained(tmp_path / "half")
    elmo.save_pretrained(tmp_path / "elmo")
    for name in ("again", "elmo"):
        content = (tmp_path / name / "model.safetensors").read_bytes()
        assert content == (tmp_path / "half" / "model.safetensors").read_bytes()
    elmo.save_pretrained(tmp_path / "whole")
    with pytest.raises(InputError, match="whole exists already: choose another folder, or pass `overwrite=True`"):
        elmo.save_pretrained(tmp_path / "whole")
    elmo.save_pretrained(tmp_path / "whole", dtype=torch.float32, overwrite=True)
    elmo.unfreeze().save_pretrained(tmp_path / "tuned")  # half precision would lose what training adds
    for name, expected in (("half", dtype), ("whole", torch.float32), ("tuned", torch.float32)):
        assert {tensor.dtype for tensor in load_file(tmp_path / name / "model.safetensors").values()} == {expected}


def test_a_model_without_softmax_embeds_and_has_no_perplexity(tmp_path, checkpoint, corpus, capsys):
    checkpoint.save_pretrained(tmp_path / "model")
    expected = ELMo.from_pretrained(tmp_path / "model").embed([["ban"]])[0]
    (tmp_path / "text.txt").write_text("ban dost\n")
    for remains in (b"damaged", None):
        (tmp_path / "model" / "softmax.safetensors").unlink()
        if remains is not None:
            (tmp_path / "model" / "softmax.safetensors").write_bytes(remains)
        assert (ELMo.from_pretrained(tmp_path / "model").embed([["ban"]])[0] == expected).all()
        assert Checkpoint.from_pretrained(tmp_path / "model", with_softmax=False).softmax is None
    assert main(["info", str(tmp_path / "model")]) == 0
    for command in (
        ["evaluate", str(tmp_path / "model"), str(tmp_path / "text.txt")],
        ["pretrain", f"--init-from={tmp_path / 'model'}", f"--corpus={corpus.folder}", f"--out={tmp_path / 'run'}"],
    ):
        assert main(command) == 2
        assert "softmax.safetensors is missing: perplexity and continued training need it" in capsys.readouterr().err
    checkpoint.softmax = None
    checkpoint.save_pretrained(tmp_path / "model", overwrite=True)
    assert Checkpoint.from_pretrained(tmp_path / "model").softmax is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].update(cel_size=3), r"unknown key 'cel_size'; did you mean 'cell_size'"),
        (lambda c: c["model"].update(cell_size=25), r"tensor .* has shape .*, expected"),
        (lambda c: c["model"].update(n_layers=3), r"layers\.2\..* has shape none"),
        (lambda c: c.update(model=None), r"'model' must be an object"),
        (lambda c: c.update(softmax={"kind": "hierarchical"}), r"config\.json: softmax: "),
    ],
)
def test_a_configuration_that_does_not_fit_is_explained(tmp_path, checkpoint, change, message):
    checkpoint.save_pretrained(tmp_path / "model")
    edit(tmp_path / "model", change)
    with pytest.raises(InputError, match=message):
        Checkpoint.from_pretrained(tmp_path / "model")


def test_not_a_model_folder(tmp_path):
    with pytest.raises(InputError, match="no such model folder"):
        Checkpoint.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.json is missing"):
        Checkpoint.from_pretrained(tmp_path)


def test_a_model_is_found_though_a_process_was_killed_while_it_replaced_it(tmp_path, checkpoint):
    checkpoint.save_pretrained(tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / ".model.old")  # and the new one was to take its place
    assert torch.equal(Checkpoint.from_pretrained(tmp_path / "model").softmax.weight, checkpoint.softmax.weight)
    assert read_config(tmp_path / "model") == checkpoint.bilm.config


@pytest.mark.parametrize(
    ("indexer", "model_input", "extra_file"),
    [
        (UnicodeIndexer(["a", "é"]), "characters", "characters.json"),
        (WordIndexer(Vocabulary(["<S>", "</S>", "<UNK>", "ban"], [1] * 4)), "words", "vocab.txt"),
    ],
)
def test_what_a_model_reads_reads_back(tmp_path, checkpoint, indexer, model_input, extra_file):
    bilm = make_bilm(small_config(input=model_input), indexer)
    Checkpoint(bilm, checkpoint.tokenizer, indexer).save_pretrained(tmp_path / "model")
    loaded = Checkpoint.from_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / extra_file).is_file()
    assert loaded.indexer.names() == indexer.names()
    assert loaded.characters.reads == ("bytes" if model_input == "words" else indexer.reads)
    assert all(torch.equal(a, b) for a, b in zip(loaded.bilm.parameters(), bilm.parameters(), strict=True))
