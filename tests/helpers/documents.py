"""Run the code blocks of a page of documentation in an empty folder with small inputs.

usage: python tests/helpers/documents.py PAGE.md FOLDER

``python`` blocks of a page share their names, ``bash`` blocks run line by line; training is cut to a few steps. A
``text`` block after one of them is its output: words must be equal, numbers close. A block that cannot run has a
comment before it, ``<!-- not run: REASON -->``, one that runs only where modules are installed
``<!-- needs: MODULE, MODULE -->``, and an output that differs ``<!-- no output check: REASON -->``.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

FENCE = re.compile(
    r"(?:<!-- (not run|no output check|needs): (.+?) -->\s*)?^( *)```(\w+)[^\n]*\n(.*?)^ *```", re.M | re.S
)
SMALL = ["--model.cell-size=16", "--model.projection-size=8", "--max-steps=3", "--batch-size=4", "--n-validations=1"]
TOLERANCE = 0.02
"""Of numbers in outputs: absolute below 1, relative above."""


class Block(NamedTuple):
    """A fenced block."""

    mark: str | None
    reason: str | None
    language: str
    code: str
    line: int


def read_blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [
        Block(found[1], found[2], found[4], textwrap.dedent(found[5]), text.count("\n", 0, found.start(4)) + 1)
        for found in FENCE.finditer(text)
    ]


def run_page(page: Path, folder: Path) -> int:
    """Run the blocks of a page in a folder; return how many ran."""
    make_inputs(folder)
    previous, names, printed, n_run = Path.cwd(), {"__name__": "__main__", "_small": _small}, "", 0
    os.chdir(folder)
    try:
        for block in read_blocks(page.read_text(encoding="utf-8")):
            where = f"{page.name}, line {block.line}"
            is_missing = block.mark == "needs" and not all(map(find_spec, str(block.reason).split(", ")))
            if block.mark == "not run" or is_missing or block.language not in ("python", "bash", "text"):
                printed = ""
            elif block.language != "text":
                n_run += 1
                run = _run_python if block.language == "python" else _run_bash
                printed = run(block.code, where, names)
            elif printed and block.mark != "no output check":
                _compare(block.code, printed, where)
                printed = ""
    finally:
        os.chdir(previous)
    return n_run


def _run_python(code: str, where: str, names: dict[str, Any]) -> str:
    code = re.sub(r"\bmax_steps=[\d_]+", "max_steps=3", re.sub(r"\bn_epochs=\d+", "n_epochs=1", code))
    code = re.sub(r"(load_recipe\([^)]*\))", r"_small(\1)", code)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, where, "exec", dont_inherit=True), names)
    return output.getvalue()


def _small(recipe: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return a recipe with a small model and three steps."""
    model, config = recipe
    sizes = {"cell_size": 16, "projection_size": 8, "filters": [(1, 8), (2, 8)]}
    return replace(model, **sizes), replace(config, max_steps=3, batch_size=4, n_validations=1)


def _run_bash(code: str, where: str, _: dict[str, Any]) -> str:
    from elmolite.cli.main import main

    output = io.StringIO()
    for line in re.sub(r"\\\n\s*", "", code).splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] != "elmolite" or {"|", "<", ">", "&&"} & set(words):
            environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            output.write(
                subprocess.run(["bash", "-ec", line], check=True, env=environment, stdout=-1, text=True).stdout
            )
            continue
        words = [
            name for word in words[1:] for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        if words[0] == "pretrain" and "--resume" not in words:
            words += SMALL if "--init-from" not in words else SMALL[2:]
        if words[0] == "finetune":
            words += ["--n-epochs=1", *(["--seeds=2"] if "--seeds" in words else [])]
        with contextlib.redirect_stdout(output):
            code_ = main(words)
        assert code_ == 0, f"{where}: exit code {code_}: {line}"
    return output.getvalue()


def _compare(expected: str, printed: str, where: str) -> None:
    """Compare an output with the one that the page shows."""
    number = r"-?\d+\.\d+"
    shape = [" ".join(re.sub(number, "#", text).split()) for text in (expected, printed)]
    assert shape[0] == shape[1], f"{where} says\n{expected}\nbut this was printed:\n{printed}"
    for a, b in zip(re.findall(number, expected), re.findall(number, printed), strict=True):
        assert abs(float(a) - float(b)) <= TOLERANCE * max(1, abs(float(a))), f"{where} says {a}, but {b} was printed"


def make_inputs(folder: Path) -> None:
    """Write the small files that the pages name."""
    rng = random.Random(0)
    nouns, verbs = (
        ["children", "boys", "girls", "dogs", "cats", "birds"],
        ["play", "run", "sleep", "sing", "eat", "wait"],
    )
    places = ["garden", "house", "street", "river", "field"]

    def sentence() -> str:
        return f"The {rng.choice(nouns)} {rng.choice(verbs)} in the {rng.choice(places)}."

    def text(n: int) -> str:
        return "".join(f"{sentence()} {sentence()}\n" + "\n" * (i % 5 == 4) for i in range(n))

    for name in ("books/a.txt", "books/b.txt", "patents/a.txt", "speeches.txt"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text(200), encoding="utf-8")
    (folder / "notes.txt.gz").write_bytes(gzip.compress(text(20).encode()))
    for name in ("other-text.txt", "novel.txt", "valid.txt"):
        (folder / name).write_text(text(20), encoding="utf-8")
    (folder / "sentences.txt").write_text("".join(sentence() + "\n" for _ in range(10)), encoding="utf-8")
    tokens = [sentence().replace(".", " .") for _ in range(400)]
    (folder / "tokenized.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    tags = {"The": "DET", "the": "DET", "in": "ADP", ".": "PUNCT", **dict.fromkeys(verbs, "VERB")}
    for part, n in (("train", 40), ("dev", 10), ("test", 10), ("other", 10)):
        sentences = [sentence() for _ in range(n)]
        label = ["inside" if "house" in each else "outside" for each in sentences]
        rows = [f"{each}\t{kind}\n" for each, kind in zip(sentences, label, strict=True)]
        (folder / f"{part}.tsv").write_text("text\tlabel\n" + "".join(rows), encoding="utf-8")
        pairs = [
            f"{a}\t{b}\t{rng.choice(('entailment', 'neutral'))}\n"
            for a, b in zip(sentences, sentences[::-1], strict=True)
        ]
        (folder / f"{part}-pairs.tsv").write_text("premise\thypothesis\tlabel\n" + "".join(pairs), encoding="utf-8")
        conllu = [
            "".join(
                f"{i}\t{word}\t_\t{tags.get(word, 'NOUN')}" + "\t_" * 6 + "\n"
                for i, word in enumerate(each.replace(".", " .").split(), 1)
            )
            for each in sentences
        ]
        (folder / f"{part}.conllu").write_text("\n".join(conllu) + "\n", encoding="utf-8")
    words = [*nouns, *verbs, *places, "The", "the", "in", "."]
    vectors = [f"{word} " + " ".join(f"{rng.gauss(0, 1):.3f}" for _ in range(8)) for word in words]
    (folder / "vectors.txt").write_text("\n".join(vectors) + "\n", encoding="utf-8")
    from helpers.legacy_numpy import write_bilm_tf

    write_bilm_tf(folder, names=("elmo_2x4096_options.json", "elmo_2x4096_weights.hdf5"))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for helpers
    print(f"{sys.argv[1]}: {run_page(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))} blocks ran")
