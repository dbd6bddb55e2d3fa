"""The comparisons with other systems run at a small size, without the other systems, and print what they promise."""

import json
import runpy
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.data import random_sentences, write_sentences

pytestmark = pytest.mark.slow

BENCH = Path(__file__).parents[1] / "recipes" / "bench"

FAKE_WORKER = """
import sys
sys.path.insert(0, {workers!r})
import numpy as np
from worker import Embedder, serve

class Fake(Embedder):
    def __init__(self, settings, sentences):
        print("this is not for the comparison")
        self.versions = {{"fake": "1.0"}}
        self.n_forgotten = 0

    def embed_batch(self, batch):
        assert batch == sorted(batch, key=len)
        if any("fails" in sentence for sentence in batch):
            raise ValueError("what the system says")
        return [np.full((3, len(sentence), 2), len(sentence)) for sentence in batch]

    def forget(self):
        self.n_forgotten += 1

if __name__ == "__main__":
    serve(Fake)
"""


@pytest.fixture
def bench(monkeypatch):
    """The folder of the scripts, from which they import each other."""
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setattr("comparison.PAUSE_SECONDS", 0)
    return BENCH


@pytest.fixture
def run(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    write_sentences(tmp_path / "text.txt", random_sentences(60))

    def run(script, *arguments):
        options = ["--preset", "tiny", "--repeats", "1", "--threads", "1", "--anyway", "--peers", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", [script, *options, *arguments])
        runpy.run_path(str(bench / script), run_name="__main__")
        said = capsys.readouterr()
        return [json.loads(line) for line in said.out.splitlines()], said.err

    return run


@pytest.fixture
def fake(bench, tmp_path):
    """A peer in an environment of its own, which is this one."""
    from peers import System

    (tmp_path / "fake" / "bin").mkdir(parents=True)
    python = tmp_path / "fake" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    worker = tmp_path / "fake_worker.py"
    worker.write_text(FAKE_WORKER.format(workers=str(BENCH / "workers")))
    return System("fake", worker, "fake", batch_sizes=(1, 2))


@pytest.fixture
def options(tmp_path):
    return Namespace(preset="tiny", repeats=3, threads=1, peers=tmp_path, wait=0, anyway=True)


@pytest.mark.parametrize(
    ("script", "options", "systems", "expected"),
    [
        ("embed_new_words.py", "--sentences 3 --repeats 2", ["elmolite"], {"sentences": 3, "repeats": 2, "threads": 1}),
        ("embed_seen_words.py", "--sentences 3", ["elmolite"], {"sentences": 3}),
        (
            "embed_one.py",
            "--sentences 2 --length 17",
            [f"elmolite{name}{seen}" for seen in ("", ", words seen before") for name in ("", ", int8")],
            {"words": 34},
        ),
        ("embed_text.py", "--text text.txt --words 50", ["elmolite"], {"words": 50}),
        ("embed_memory.py", "--words 30 --keep", ["elmolite"], {"comparison": "peak memory, vectors kept"}),
    ],
)
def test_embedding_without_peers(run, script, options, systems, expected):
    if script == "embed_memory.py" and not Path("/proc/self/status").is_file():
        pytest.skip("memory is read from /proc")
    *found, result = run(script, *options.split())[0]
    assert [system["system"] for system in found] == systems
    for system in found:
        (figures,) = (value for value in system.values() if isinstance(value, dict) and "median" in value)
        assert 0 < figures["least"] <= figures["median"] <= figures["most"]
    assert result.items() >= expected.items()


def test_pretraining_with_the_vocabulary_of_the_user(run, tmp_path):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("".join(f"{word}\n" for word in ["<S>", "</S>", "<UNK>", *"abcdefghijkl"]))
    sizes = ["--steps", "2", "--warm-up-steps", "1", "--rows", "4", "--window", "5", "--negatives", "10"]
    (fp32, bf16, result), errors = run("pretrain.py", "--text", "text.txt", "--vocab", str(vocabulary), *sizes)
    assert [fp32["system"], bf16["system"]] == ["elmolite", "elmolite, bf16"]
    for system in (fp32, bf16):
        assert system["positions_per_second"]["least"] > 0
        assert min(system["first_loss"], system["last_loss"]) > 0
    assert result["times_better"] == {}
    assert [result[name] for name in ("steps", "n_rows", "window", "vocabulary")] == [2, 4, 5, 15]
    assert "bilm-tf is left out" in errors


def test_stages_of_a_training_step(bench, corpus, monkeypatch, capsys):
    sizes = ["--preset", "tiny", "--rows", "4", "--repeats", "1", "--negatives", "20"]
    monkeypatch.setattr(sys, "argv", ["stages.py", str(corpus.folder), *sizes])
    runpy.run_path(str(bench / "stages.py"), run_name="__main__")
    found = json.loads(capsys.readouterr().out)["ms"]
    whole = found.pop("whole step")
    assert set(found) == {"data", "characters", "LSTM", "softmax", "optimizer", "rest"}
    assert sum(found.values()) == pytest.approx(whole, abs=0.5)  # rounded to a tenth each


@pytest.mark.parametrize(("script", "n_systems"), [("embed_bf16.py", 2), ("embed_minilm.py", 3)])
def test_bf16(run, script, n_systems):
    *systems, result = run(script, "--sentences", "3")[0]
    assert len(systems) == n_systems
    assert 0.999 < result["least_cosine_to_fp32"] < 1


def test_a_peer_takes_turns_with_elmolite(fake, options, tmp_path, capsys):
    from comparison import running
    from peers import ELMOLITE

    sentences = [["a", "b", "c"], ["a"], ["a", "b"]]
    asked = []
    with running([ELMOLITE, fake], sentences, options) as comparison:
        figures = comparison.take_turns(lambda worker: asked.append(worker.system.name) or float(len(asked)))
        comparison.report("turns", "milliseconds", figures)
        comparison.workers[1].ask("save", path=str(tmp_path / "vectors.npz"))
    with np.load(tmp_path / "vectors.npz") as file:  # in the order of the sentences
        assert [file[name].shape for name in file.files] == [(3, 3, 2), (3, 1, 2), (3, 2, 2)]
    assert asked == ["elmolite", "fake"] * 3
    ours, theirs, result = map(json.loads, capsys.readouterr().out.splitlines())
    assert ours["milliseconds"] == {"median": 3, "least": 1, "most": 5}
    assert theirs["versions"]["fake"] == "1.0"
    assert theirs["batch_size"] in (1, 2)
    assert result["times_better"] == {"elmolite : fake": {"median": 1.333, "least": 1.2, "most": 2}}


def test_why_a_peer_failed_is_said(fake, options):
    from comparison import running

    with (
        pytest.raises(SystemExit, match=r"fake ended:(.|\n)*what the system says"),
        running([fake], [["fails"]], options),
    ):
        pass


def test_a_busy_machine_is_refused(bench, monkeypatch, capsys):
    from comparison import wait_until_quiet

    monkeypatch.setattr("os.getloadavg", lambda: (1.7, 0, 0))
    with pytest.raises(SystemExit, match=r"busy: a load average of 1\.70"):
        wait_until_quiet(0, anyway=False)
    assert wait_until_quiet(0, anyway=True) == 1.7
    assert "not to be trusted" in capsys.readouterr().err


def test_the_floor_of_each_stage(bench, monkeypatch, capsys):
    import floor

    monkeypatch.setattr(floor, "SHAPE", (4, 8, 16))
    monkeypatch.setattr(floor, "seconds", partial(floor.seconds, repeats=1))
    monkeypatch.setattr(sys, "argv", ["floor.py", "tiny", "--sentences", "3"])
    floor.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stages = [(line["stage"], line["precision"]) for line in lines if "stage" in line]
    assert stages == [(s, p) for p in ("32-true", "bf16-mixed", "int8") for s in ("characters", "LSTMs", "all")]
    assert all(line["measured_us"] > 0 for line in lines if "stage" in line)
    lstms = 2 * 2 * 2 * (4 * 256 * 128 + 256 * 64)  # layers, directions, multiply and add
    assert next(line["MFLOP"] for line in lines if line.get("stage") == "LSTMs") == pytest.approx(lstms / 1e6, abs=0.06)
