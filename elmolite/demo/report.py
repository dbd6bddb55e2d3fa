"""HTML report of the demonstration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from elmolite.reports import html
from elmolite.utils import files

REPORT = "report.html"


def write_report(
    path: Path, results: Mapping[str, dict[str, Any]], *, texts: Mapping[str, tuple[str, str]], commands: Sequence[str]
) -> None:
    """Write the results of all steps as one page.

    :param texts: introduction and result of each step, as printed.
    """
    seconds = [[name, f"{result['seconds']:.0f} s"] for name, result in results.items()]
    chart = html.line_chart(
        {name: results["pretraining"][name] for name in ("training", "validation")},
        x_label="step",
        y_label="Perplexity",
        levels={"unigram": results["text"]["unigram"]},
    )
    explanations = {name: html.paragraph(explanation) for name, (explanation, _) in texts.items()}
    described = {name: html.code(text.strip("\n")) for name, (_, text) in texts.items()}
    sections = [
        ("", [html.paragraph("What elmolite demo did: a released model at work, a small one trained from scratch.")]),
        ("One word, several senses", _senses(results["released"])),
        ("Text", [described["text"]]),
        ("Pretraining", [explanations["pretraining"], chart, described["pretraining"]]),
        ("A task: which words are code?", [explanations["task"], described["task"]]),
        ("Next", [html.code("\n".join(commands))]),
        ("Wall time", [html.table(["", ""], seconds)]),
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
