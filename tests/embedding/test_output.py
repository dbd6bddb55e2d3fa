import hashlib
import json
from unittest import mock

import h5py
import numpy as np
import pytest
import torch
from helpers.data import random_sentences
from helpers.models import assert_close
from helpers.pretraining import DiedError
from safetensors.torch import load_file, save_file

from elmolite.embedding.elmo import ELMo
from elmolite.embedding.output import FORMAT_VERSION, EmbeddingFolder, EmbeddingSettings, embed_file
from elmolite.errors import InputError
from elmolite.utils import files

LINES = [" ".join(sentence) for sentence in random_sentences(120)]
LINES[7] = ""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("elmolite.embedding.output.PART_BYTES", 30_000)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    write_lines(path, LINES)
    return path


def embed(model, text, output, **options):
    return embed_file(model, str(text), output, show_progress=False, **options)


def embed_lines(model_folder, **options):
    return ELMo.from_pretrained(model_folder).embed([line.split() for line in LINES], **options)


def write_lines(text, lines):
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")


def checksums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("layers", ["all", "top", 0])
def test_a_directory_has_the_vectors_of_every_line(tmp_path, model_folder, text, layers):
    written = embed(model_folder, text, tmp_path / "out", layers=layers)
    assert (written.n_sentences, written.n_resumed) == (120, 0)
    folder = EmbeddingFolder(tmp_path / "out")
    assert len(folder) == 120
    assert written.n_tokens == sum(len(line.split()) for line in LINES)
    assert len(list((tmp_path / "out").glob("part-*"))) >= 3
    assert_close(folder, embed_lines(model_folder, layers=layers))
    for number, vectors in enumerate(folder):
        np.testing.assert_array_equal(folder[number], vectors)
    assert folder[7].shape[-2] == 0
    np.testing.assert_array_equal(folder[-1], folder[119])
    assert_close(folder[-3:500], [folder[number] for number in (117, 118, 119)])
    assert folder[3:3] == []
    for number in (120, -121):
        with pytest.raises(IndexError):
            folder[number]


def test_a_part_is_vectors_and_offsets(tmp_path, model_folder, text):
    embed(model_folder, text, tmp_path / "out", layers="top", dtype="bfloat16")
    part = load_file(tmp_path / "out" / "part-00000.safetensors")
    assert part["vectors"].dtype == torch.bfloat16
    assert part["offsets"][-1] == len(part["vectors"])
    first = part["vectors"][: part["offsets"][1]].float()
    np.testing.assert_allclose(first, embed_lines(model_folder, layers="top")[0], atol=0.02)


@pytest.mark.parametrize("n_parts", [0, 1, 3])
def test_an_interrupted_run_is_resumed_with_the_same_result(tmp_path, model_folder, text, monkeypatch, n_parts):
    embed(model_folder, text, tmp_path / "whole")
    made = []

    def stop(self, chunk, embed=ELMo.embed, **options):
        made.append(chunk)
        if len(made) > n_parts:
            raise DiedError
        return embed(self, chunk, **options)

    with monkeypatch.context() as patch, pytest.raises(DiedError):
        patch.setattr(ELMo, "embed", stop)
        embed(model_folder, text, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("part-*"))) == n_parts
    with pytest.raises(InputError, match="incomplete; run the same elmolite embed again"):
        EmbeddingFolder(tmp_path / "out")
    written = embed(model_folder, text, tmp_path / "out")
    assert written.n_resumed == sum(map(len, made[:n_parts]))
    assert ("of them by an earlier run" in written.describe()) == (n_parts > 0)
    assert checksums(tmp_path / "out") == checksums(tmp_path / "whole")


def edit(folder, **changes):
    content = files.read_manifest(folder / "embedding.json", kind="embedding", version=FORMAT_VERSION)
    files.write_manifest(folder / "embedding.json", content | changes)


def incomplete(tmp_path, model_folder, text):
    embed(model_folder, text, tmp_path / "out")
    edit(tmp_path / "out", is_complete=False)
    return tmp_path / "out"


def test_other_settings_are_refused(tmp_path, model_folder, text):
    out = incomplete(tmp_path, model_folder, text)
    for options in ({"layers": "top"}, {"dtype": "float16"}, {"batch_tokens": 64}, {"pretokenized": True}):
        with pytest.raises(InputError, match=r"cannot resume, (layers|dtype|batch_tokens|pretokenized) was"):
            embed(model_folder, text, out, **options)
    with pytest.raises(InputError, match="cannot resume, model was"):
        embed("mini-en", text, out)


def test_another_text_is_refused(tmp_path, model_folder, text):
    out = tmp_path / "out"
    embed(model_folder, text, out)
    before = checksums(out)
    assert embed(model_folder, text, out).n_resumed == 120
    first_part = json.loads((out / "embedding.json").read_text())["parts"][0]["sentences"]
    for lines in (["other", *LINES[1:]], LINES[:20], LINES[:first_part]):
        write_lines(text, lines)
        with pytest.raises(InputError, match="safetensors: cannot resume, the text has changed"):
            embed(model_folder, text, out)
    assert checksums(out) == before


def test_an_extended_text_is_resumed(tmp_path, model_folder, text):
    out = incomplete(tmp_path, model_folder, text)
    write_lines(text, [*LINES, "one more", "and one"])
    written = embed(model_folder, text, out)
    assert (written.n_sentences, written.n_resumed) == (122, 120)
    embed(model_folder, text, tmp_path / "anew")
    assert checksums(out) == checksums(tmp_path / "anew")


def test_only_partial_files_of_a_killed_run_are_removed(tmp_path, monkeypatch, model_folder, text):
    monkeypatch.setattr(files, "UNLOCKED_AFTER", -1.0)
    out = tmp_path / "out"
    out.mkdir()
    files.partial_path(out / "embedding.json").write_bytes(b"half")
    embed(model_folder, text, out)
    assert not list(out.glob(".*"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".letter.txt.partial").touch()
    with pytest.raises(InputError, match=r"mine exists already, and has no vectors to resume"):
        embed(model_folder, text, tmp_path / "mine")
    assert (tmp_path / "mine" / ".letter.txt.partial").exists()


def test_a_damaged_part_is_named(tmp_path, model_folder, text):
    out = tmp_path / "out"
    embed(model_folder, text, out)
    part = out / "part-00001.safetensors"
    content = part.read_bytes()
    for damaged, message in ((content[:100], "has 100 bytes, expected"), (content[:-1] + b"?", "is damaged")):
        part.write_bytes(damaged)
        for read in (lambda: embed(model_folder, text, out), lambda: list(EmbeddingFolder(out))):
            with pytest.raises(InputError, match=f"part-00001.safetensors {message}.*delete it, and embed again"):
                read()
    part.unlink()
    with pytest.raises(InputError, match=r"part-00001\.safetensors is missing"):
        list(EmbeddingFolder(out))
    embed(model_folder, text, out)
    assert part.read_bytes() == content


def test_a_part_or_manifest_of_another_shape_is_named(tmp_path, model_folder, text):
    out = incomplete(tmp_path, model_folder, text)
    part = out / "part-00000.safetensors"
    save_file({"vectors": torch.zeros(3, 2), "offsets": torch.tensor([0, 2, 4])}, part)
    for n_sentences, message in ((2, "part-00000.safetensors: offsets do not match"), ("x", "'parts' must have")):
        edit(out, parts=[{"sentences": n_sentences, "tokens": 3, **files.file_entry(part)}])
        with pytest.raises(InputError, match=message):
            embed(model_folder, text, out)


def test_a_part_is_hashed_once(tmp_path, model_folder, text):
    embed(model_folder, text, tmp_path / "out")
    folder = EmbeddingFolder(tmp_path / "out")
    with mock.patch.object(files, "file_entry", wraps=files.file_entry) as hashed:
        for number in (0, 1, 0, 119):
            folder[number]
    assert hashed.call_count == 2


def test_hdf5_has_the_layout_of_allennlp(tmp_path, model_folder, text):
    written = embed(model_folder, text, tmp_path / "v.hdf5")
    assert written.describe() == f"120 sentences, 1 of them without tokens, {written.n_tokens:,} tokens"
    with h5py.File(tmp_path / "v.hdf5") as file:
        assert set(file) == {*map(str, range(120)), "sentence_to_index"}
        assert_close([file[str(number)][...] for number in range(120)], embed_lines(model_folder))
        index = json.loads(file["sentence_to_index"][0])
    assert all(LINES[int(number)] == line for line, number in index.items())
    assert set(index) == set(LINES)


def test_half_precision_in_one_file(tmp_path, model_folder, text):
    embed(model_folder, text, tmp_path / "v.npz", dtype="float16", layers="top")
    with np.load(tmp_path / "v.npz") as arrays:
        assert arrays["3"].dtype == np.float16
        np.testing.assert_allclose(arrays["3"], embed_lines(model_folder, layers="top")[3], atol=2e-3)


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("v.npz", {"dtype": "bfloat16"}, "bfloat16 does not exist in numpy"),
        ("v.txt", {}, "v.txt: unknown suffix; expected .npz"),
        ("v", {"dtype": "float8"}, "dtype must be float32, float16 or bfloat16, got 'float8'; did you mean 'float"),
        ("v", {"layers": "tpo"}, "layers must be .* got 'tpo'"),
        ("v", {"batch_tokens": 0}, "batch_tokens must be"),
    ],
)
def test_invalid_options_are_refused_and_write_nothing(tmp_path, model_folder, text, output, options, message):
    with pytest.raises(InputError, match=message):
        embed(model_folder, text, tmp_path / output, **options)
    assert not (tmp_path / output).exists()


def test_vectors_too_large_for_float16_are_refused():
    settings = EmbeddingSettings("top", 1, "float16", pretokenized=False, precision="32-true")
    assert settings.convert(np.array([65504.0, 1.0], np.float32)).tolist() == [65504, 1]
    with pytest.raises(InputError, match="cannot hold"):
        settings.convert(np.array([70000.0], np.float32))


def test_int8_on_another_device_writes_nothing(monkeypatch, tmp_path, model_folder, text):
    monkeypatch.setattr("elmolite.embedding.output.best_device", lambda: torch.device("meta"))
    with pytest.raises(InputError, match="int8 is for a CPU, got a model on meta: choose bf16-mixed, or the CPU"):
        embed(model_folder, text, tmp_path / "v", precision="int8")
    assert not (tmp_path / "v").exists()


def test_an_empty_file_writes_nothing(tmp_path, model_folder):
    (tmp_path / "empty.txt").touch()
    for output in ("v.npz", "v.h5", "v"):
        with pytest.raises(InputError, match=r"empty.txt: the file is empty"):
            embed(model_folder, tmp_path / "empty.txt", tmp_path / output)
    assert not list((tmp_path).glob("v.*"))
