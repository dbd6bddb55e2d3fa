"""HTML report of the demonstration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from elmolite.reports import html
from elmolite.utils import files

REPORT = "report.html"


def write_report(
    path: Path, results: Mapping[str, dict[str, Any]], *, settings: Mapping[str, str], commands: Sequence[str]
) -> None:
    """Write the results of all steps as one page."""
    released, text, pretraining, task = (results[name] for name in ("released", "text", "pretraining", "task"))
    seconds = [[name, f"{result['seconds']:.0f} s"] for name, result in results.items()]
    sections = [
        (
            "",
            [html.paragraph("What elmolite demo did: a released model at work, and a small one trained from scratch.")],
        ),
        ("One word, several senses", _senses(released)),
        ("Pretraining", _pretraining(text, pretraining)),
        ("A task: which words are code?", _task(task)),
        ("Next", [html.code("\n".join(commands))]),
        ("Settings", [html.table(["", "wall time"], seconds), html.table(["", ""], settings.items(), n_text=2)]),
    ]
    files.write_bytes(path, html.page("elmolite: demonstration", sections).encode())


def _sentence(occurrence: Mapping[str, Any]) -> str:
    return html.tokens(occurrence["tokens"], marked=[occurrence["index"]])


def _senses(result: Mapping[str, Any]) -> list[str]:
    parts = [html.paragraph("mini-en comes with the package. Nearest words in context, by cosine of the top layer:")]
    for each in result["neighbours"]:
        rows = [[_sentence(near), f"{near['cosine']:.3f}"] for near in each["nearest"]]
        rows.insert(0, [f"<strong>{_sentence(each['query'])}</strong>", ""])
        parts.append(html.table(["", "cosine"], rows, escaped=True))
    parts.append(html.paragraph("Cosine of one word in four sentences, two of each sense:"))
    rows = [
        [f"{number} {_sentence(each)}", *map(html.shaded, cosines)]
        for number, (each, cosines) in enumerate(zip(result["compared"], result["cosines"], strict=True), start=1)
    ]
    parts.append(html.table(["", *(str(number) for number in range(1, len(rows) + 1))], rows, escaped=True))
    parts.append(html.paragraph("Parts of speech by mini-en-upos, a tagger on its vectors:"))
    for each in result["tagged"]:
        parts.append(html.table(each["tokens"], [each["tags"]], n_text=len(each["tokens"])))
    return parts


def _pretraining(text: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    first, last = result["validation"][0][1], result["validation"][-1][1]
    chart = html.line_chart(
        {"training": result["training"], "validation": result["validation"]},
        x_label="step",
        y_label="Perplexity",
        levels={"unigram": text["unigram"]},
    )
    words = f"{text['n_words']:,} words of docstrings from {', '.join(text['packages'])}."
    explanation = (
        "Perplexity is the number of equally likely words between which the model would be as uncertain. On the "
        f"validation text it fell from {first:.1f} to {last:.1f}; the word frequencies alone (unigram) reach "
        f"{text['unigram']:.1f}. Training starts near there, because the output biases are initialised with them."
    )
    return [html.paragraph(words), html.paragraph(explanation), chart, html.code(text["corpus"])]


def _task(result: Mapping[str, Any]) -> list[str]:
    counts = ", ".join(f"{n:,} {name}" for name, n in result["n_examples"].items())
    differences = [[each["model"], each["author"]] for each in result["predictions"]]
    return [
        html.paragraph(
            "A tagger on the layers of the pretrained model, and on those of the same model with random weights; "
            f"{counts} sentences."
        ),
        html.code(result["scores"]),
        html.paragraph("Test sentences, with what the pretrained model and the author put between back-ticks:"),
        html.table(["model", "author"], differences, n_text=2),
    ]
