import pytest

from elmolite.demo import run
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError


def test_all_of_it_at_a_small_size(tmp_path, capsys):
    run.run(tmp_path / "demo", size="smoke")
    said = capsys.readouterr().out
    for expected in (
        "words of prose",
        "MB/s",
        "held-out perplexity, backward",
        "cosine of the two 'play'",
        "no model",
        "next  ",
    ):
        assert expected in said
    fall = [line for line in said.split("\n") if line.startswith("held-out perplexity, ")]
    before, after = (float(part.split()[-1]) for part in fall[0].split("(")[0].split("->"))
    assert after < 0.7 * before  # which is that of the words' frequencies
    assert (tmp_path / "demo" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert ELMo.from_pretrained(tmp_path / "demo" / "model").embed(["It works."])[0].shape[0] == 3
    assert (tmp_path / "demo" / "tasks" / "pair" / "pretrained-0" / "metrics.json").exists()
    assert not (tmp_path / "demo" / "tasks" / "layers").exists()
    run._clear(tmp_path / "demo")
    assert list((tmp_path / "demo").iterdir()) == []


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other things .thesis\.tex."):
        run.run(tmp_path, size="smoke")
    assert (tmp_path / "thesis.tex").exists()
