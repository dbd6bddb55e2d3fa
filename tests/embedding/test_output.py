import hashlib
import json
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
from conftest import random_sentences, write_sentences
from safetensors.torch import load_file, save_file

from elmolite.cli.main import main
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
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def embed(model, text, output, **options):
    return embed_file(model, str(text), output, show_progress=False, **options)


def checksums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("layers", ["all", "top", 0])
def test_a_directory_has_the_vectors_of_every_line(tmp_path, model_folder, text, layers):
    written = embed(model_folder, text, tmp_path / "out", layers=layers)
    assert (written.n_sentences, written.n_resumed) == (120, 0)
    folder = EmbeddingFolder(tmp_path / "out")
    expected = ELMo.from_pretrained(model_folder).embed([line.split() for line in LINES], layers=layers)
    assert len(folder) == len(expected) == 120
    assert written.n_tokens == sum(len(line.split()) for line in LINES)
    assert len(list((tmp_path / "out").glob("part-*"))) >= 3
    for number, (each, vectors) in enumerate(zip(folder, expected, strict=True)):
        np.testing.assert_array_equal(folder[number], each)
        np.testing.assert_allclose(each, vectors, rtol=2e-6, atol=2e-6)
    assert folder[7].shape[-2] == 0
    np.testing.assert_array_equal(folder[-1], folder[119])
    for number in (120, -121):
        with pytest.raises(IndexError):
            folder[number]


def test_a_part_is_vectors_and_offsets(tmp_path, model_folder, text):
    embed(model_folder, text, tmp_path / "out", layers="top", dtype="bfloat16")
    part = load_file(tmp_path / "out" / "part-00000.safetensors")
    assert part["vectors"].dtype == torch.bfloat16
    first = ELMo.from_pretrained(model_folder).embed([LINES[0].split()], layers="top")[0]
    np.testing.assert_allclose(part["vectors"][: part["offsets"][1]].float().numpy(), first, atol=0.02)
    assert part["offsets"][-1] == len(part["vectors"])


class InterruptedRunError(Exception):
    pass


@pytest.mark.parametrize("n_parts", [0, 1, 3])
def test_an_interrupted_run_is_resumed_with_the_same_result(tmp_path, model_folder, text, monkeypatch, n_parts):
    embed(model_folder, text, tmp_path / "whole")
    made = []

    def stop(self, chunk, embed=ELMo.embed, **options):
        made.append(chunk)
        if len(made) > n_parts:
            raise InterruptedRunError
        return embed(self, chunk, **options)

    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        patch.setattr(ELMo, "embed", stop)
        embed(model_folder, text, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("part-*"))) == n_parts
    with pytest.raises(InputError, match="incomplete; run the same elmolite embed again"):
        EmbeddingFolder(tmp_path / "out")
    written = embed(model_folder, text, tmp_path / "out")
    assert written.n_resumed == sum(map(len, made[:n_parts]))
    assert checksums(tmp_path / "out") == checksums(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_process_is_resumed_with_the_same_result(tmp_path, monkeypatch, capsys, model_folder):
    text = write_sentences(tmp_path / "long.txt", random_sentences(1500))
    monkeypatch.setattr("elmolite.embedding.output.PART_BYTES", 30_000)
    command = "import sys; from elmolite.embedding import output; output.PART_BYTES = 30_000\n"
    command += "from elmolite.cli.main import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["embed", str(model_folder), "--input", str(text), "--output"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    process = subprocess.Popen([sys.executable, "-c", command, *arguments, str(tmp_path / "out")])
    while len(list((tmp_path / "out").glob("part-*"))) < 5:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    capsys.readouterr()
    assert main([*arguments, str(tmp_path / "out")]) == 0
    assert "of them by an earlier run" in capsys.readouterr().out
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
        text.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with pytest.raises(InputError, match="safetensors: cannot resume, the text has changed"):
            embed(model_folder, text, out)
    assert checksums(out) == before


def test_an_extended_text_is_resumed(tmp_path, model_folder, text):
    out = incomplete(tmp_path, model_folder, text)
    text.write_text("\n".join([*LINES, "one more", "and one"]) + "\n", encoding="utf-8")
    written = embed(model_folder, text, out)
    assert (written.n_sentences, written.n_resumed) == (122, 120)
    embed(model_folder, text, tmp_path / "anew")
    assert checksums(out) == checksums(tmp_path / "anew")


def test_partial_files_of_a_killed_run_are_removed(tmp_path, monkeypatch, model_folder, text):
    monkeypatch.setattr(files, "UNLOCKED_AFTER", -1.0)
    out = tmp_path / "out"
    out.mkdir()
    files.partial_path(out / "embedding.json").write_bytes(b"half")
    embed(model_folder, text, out)
    assert not list(out.glob(".*"))


def test_other_files_are_not_replaced(tmp_path, model_folder, text):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".letter.txt.partial").touch()
    with pytest.raises(InputError, match=r"mine is not a complete embedding folder: embedding\.json is missing"):
        embed(model_folder, text, tmp_path / "mine")
    assert (tmp_path / "mine" / ".letter.txt.partial").exists()


def test_a_damaged_part_is_named(tmp_path, model_folder, text):
    out = incomplete(tmp_path, model_folder, text)
    edit(out, is_complete=True)
    part = out / "part-00001.safetensors"
    content = part.read_bytes()
    for damaged, message in ((content[:100], "has 100 bytes, expected"), (content[:-1] + b"?", "is damaged")):
        part.write_bytes(damaged)
        message = f"part-00001.safetensors {message}.*delete it, and embed again"
        for read in (lambda: embed(model_folder, text, out), lambda: list(EmbeddingFolder(out))):
            with pytest.raises(InputError, match=message):
                read()
    part.unlink()
    with pytest.raises(InputError, match=r"part-00001\.safetensors is missing"):
        list(EmbeddingFolder(out))
    embed(model_folder, text, out)
    assert part.read_bytes() == content


@pytest.mark.parametrize("n_tokens", [3, 4])
def test_a_part_of_another_shape_is_named(tmp_path, model_folder, text, n_tokens):
    out = incomplete(tmp_path, model_folder, text)
    part = out / "part-00000.safetensors"
    save_file({"vectors": torch.zeros(3, 2), "offsets": torch.tensor([0, n_tokens])}, part)
    edit(out, parts=[{"sentences": 2, "tokens": 3, **files.file_entry(part)}])
    with pytest.raises(InputError, match=r"part-00000\.safetensors: offsets do not match the vectors"):
        embed(model_folder, text, out)


def test_a_part_is_hashed_once(tmp_path, monkeypatch, model_folder, text):
    embed(model_folder, text, tmp_path / "out")
    hashed = []
    file_entry = files.file_entry
    monkeypatch.setattr(files, "file_entry", lambda path: hashed.append(path.name) or file_entry(path))
    folder = EmbeddingFolder(tmp_path / "out")
    for number in (0, 1, 0, 119):
        folder[number]
    assert hashed == ["part-00000.safetensors", max(path.name for path in folder.folder.glob("part-*"))]


def test_an_invalid_manifest_is_refused(tmp_path, model_folder, text):
    out = incomplete(tmp_path, model_folder, text)
    edit(out, parts=[{"sentences": "x", "tokens": 1, "bytes": 1, "sha256": "0"}])
    with pytest.raises(InputError, match="'parts' must have sentences, tokens, bytes, sha256 of each part"):
        EmbeddingFolder(out)


def test_hdf5_has_the_layout_of_allennlp(tmp_path, model_folder, text):
    written = embed(model_folder, text, tmp_path / "v.hdf5")
    assert written.describe() == f"120 sentences, 1 of them without tokens, {written.n_tokens:,} tokens"
    expected = ELMo.from_pretrained(model_folder).embed([line.split() for line in LINES])
    with h5py.File(tmp_path / "v.hdf5") as file:
        assert set(file) == {*map(str, range(120)), "sentence_to_index"}
        for number, vectors in enumerate(expected):
            np.testing.assert_allclose(file[str(number)][...], vectors, rtol=2e-6, atol=2e-6)
        index = json.loads(file["sentence_to_index"][0])
    assert all(LINES[int(number)] == line for line, number in index.items())
    assert set(index) == set(LINES)


def test_half_precision_in_one_file(tmp_path, model_folder, text):
    embed(model_folder, text, tmp_path / "v.npz", dtype="float16", layers="top")
    expected = ELMo.from_pretrained(model_folder).embed([LINES[3].split()], layers="top")[0]
    with np.load(tmp_path / "v.npz") as arrays:
        assert arrays["3"].dtype == np.float16
        np.testing.assert_allclose(arrays["3"], expected, atol=2e-3)


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("v.npz", {"dtype": "bfloat16"}, "dtype bfloat16 does not exist in numpy"),
        ("v.txt", {}, "v.txt: unknown suffix; expected .npz"),
        ("v", {"dtype": "float8"}, "dtype: unknown 'float8'; did you mean 'float"),
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


def test_an_empty_file_writes_nothing(tmp_path, model_folder):
    (tmp_path / "empty.txt").touch()
    for output in ("v.npz", "v.h5", "v"):
        with pytest.raises(InputError, match=r"empty.txt: the file is empty"):
            embed(model_folder, tmp_path / "empty.txt", tmp_path / output)
    assert not list((tmp_path).glob("v.*"))
