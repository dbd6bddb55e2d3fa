import os
import signal

import pytest

from elmolite.cli.main import main
from elmolite.demo import run as demo
from elmolite.demo.run import Step
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError


@pytest.mark.slow
def test_smoke_size(tmp_path, capsys, monkeypatch):
    out = tmp_path / "demo"
    demo.run(out, size="smoke")
    said = capsys.readouterr().out
    (perplexities,) = [line for line in said.split("\n") if line.startswith("Validation perplexity")]
    first, last, unigram, _ = (float(word.strip(",:")) for word in perplexities.split() if word[0].isdigit())
    assert last < 0.8 * unigram < 0.9 * first
    assert "DET NOUN     VERB ADP DET NOUN PUNCT" in said
    cosines = [float(line.split()[2]) for line in said.split("\n") if line.startswith("  same sense")]
    others = [float(line.split()[2]) for line in said.split("\n") if line.startswith("  other sense")]
    assert len(cosines) == len(others) == 2
    assert min(cosines) > max(others)
    f1 = demo._open(out, "smoke", overwrite=False).results["task"]["f1"]
    (untrained,), (pretrained,) = f1["untrained"], f1["pretrained"]
    assert pretrained > untrained + 0.1
    assert f"{pretrained:.4f}" in said
    report = (out / "report.html").read_text()
    assert f"unigram {unigram:.4g}" in report
    assert not any(word in report for word in ("<script", "src=", "href=", "http"))
    assert ELMo.from_pretrained(out / "run" / "model").embed(["It works."])[0].shape[0] == 3

    def fail(*_):
        raise AssertionError("a finished step was repeated")

    monkeypatch.setattr(demo, "STEPS", {name: step._replace(compute=fail) for name, step in demo.STEPS.items()})
    (out / "report.html").unlink()
    demo.run(out, size="smoke")
    assert perplexities in capsys.readouterr().out
    assert (out / "report.html").read_text() == report
    with pytest.raises(InputError, match=r"contains a demonstration of --size smoke .* --overwrite"):
        demo.run(out)
    demo._clear(out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_the_same_command_continues(tmp_path, monkeypatch, capsys, number):
    done = []

    def first(_):
        done.append("first")
        return {"value": 3}

    def second(_):
        done.append("second")
        if done == ["first", "second"]:
            os.kill(os.getpid(), number)
        return {}

    def step(compute):
        return Step(compute.__name__, lambda _: "begins", compute, lambda each: str(each.results["first"]["value"]))

    monkeypatch.setattr(demo, "STEPS", {"first": step(first), "second": step(second)})
    monkeypatch.setattr(demo, "write_report", lambda *_, **__: None)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["demo", "--out", str(tmp_path)]) == 75
    assert capsys.readouterr().err.endswith(f"continues: elmolite demo --out {tmp_path}\n")
    demo.run(tmp_path)
    assert done == ["first", "second", "second"]
    assert "== 1. first (finished before)\nbegins\n3\n" in capsys.readouterr().out
    demo.run(tmp_path, overwrite=True)
    assert done == ["first", "second", "second", "first", "second"]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_with_other_files_are_refused(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"contains other files .thesis\.tex."):
        demo.run(tmp_path, size="smoke", overwrite=overwrite)
    assert (tmp_path / "thesis.tex").exists()
