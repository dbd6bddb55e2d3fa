import json

import pytest

from elmolite.demo import run
from elmolite.embedding.elmo import ELMo
from elmolite.errors import InputError


@pytest.mark.slow
def test_smoke_size(tmp_path, capsys):
    out = tmp_path / "demo"
    run.run(out, size="smoke")
    said = capsys.readouterr().out
    for expected in ("words of prose", "validation perplexity, backward", "cosine of the two 'play'", "next  "):
        assert expected in said
    fall = [line for line in said.split("\n") if line.startswith("validation perplexity, ")]
    before, after = (float(part.split()[-1]) for part in fall[0].split("(")[0].split("->"))
    assert after < 0.7 * before  # the perplexity of the word frequencies
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert ELMo.from_pretrained(out / "model").embed(["It works."])[0].shape[0] == 3
    scores = {name: json.loads((out / "task" / name / "metrics.json").read_text()) for name in run.code_names.MODELS}
    assert all(f"{each['test']['value']:.3f}" in said for each in scores.values())
    run._clear(out)
    assert list(out.iterdir()) == []


def test_folders_with_other_files_are_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"contains other files .thesis\.tex."):
        run.run(tmp_path, size="smoke")
    assert (tmp_path / "thesis.tex").exists()
