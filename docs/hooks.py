"""MkDocs hooks: pages that are generated from the code, formulas as MathML, and the markup of docstrings."""

from __future__ import annotations

import contextlib
import html
import io
import json
import os
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

from elmolite.cli.main import COMMANDS, main
from elmolite.tasks.specs import TASKS

DOCS = Path(__file__).parent
SOURCE = "https://github.com/elmolite/elmolite/blob/main"
INCLUDED = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "reliability.md": "tests/reliability/README.md",
    **{
        f"models/{path.parent.name}.md": path.relative_to(DOCS.parent).as_posix()
        for path in sorted(DOCS.parent.glob("checkpoints/*/README.md"))
    },
}
"""Pages that are files of the repository."""


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the reference of the commands, files of the repository, and a page for each notebook."""
    pages = {"reference/commands.md": commands(), **{page: included(source) for page, source in INCLUDED.items()}}
    pages |= {f"tutorials/{path.stem}.md": notebook_page(path) for path in sorted(DOCS.glob("notebooks/*.ipynb"))}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Turn formulas into MathML, which browsers draw without a script, and drop the roles of docstrings."""
    content = re.sub(r'<(div|span) class="arithmatex">(.*?)</\1>', _as_mathml, content, flags=re.DOTALL)
    content = re.sub(r":(?:attr|class|data|func|meth|mod):<code>~?(.*?)</code>", r"<code>\1</code>", content)
    if page.file.src_uri == "how-elmo-works.md":  # the code is what the page explains
        content = content.replace('<details class="mkdocstrings-source">', '<details class="mkdocstrings-source" open>')
    return content


def _as_mathml(found: re.Match[str]) -> str:
    tag, formula = found[1], html.unescape(found[2]).strip()
    mathml = convert(formula[2:-2].strip(), display="block" if tag == "div" else "inline")
    return f'<{tag} class="formula">{mathml}</{tag}>'


def included(source: str) -> str:
    """Return a file of the repository as a page."""
    text = (DOCS.parent / source).read_text(encoding="utf-8")
    return re.sub(r"\.\./([\w-]+)/README\.md", r"\1.md", text)  # from one card to another


def commands() -> str:
    """Return the page with what ``elmolite COMMAND --help-all`` prints, for each command."""
    parts = [
        "# Commands",
        "Every option of every command: each section is what `--help-all` prints; "
        "`--help` leaves out options for experts. Any option can also be set in a YAML file (`--config FILE`, or the "
        "name of a recipe); `--print-config` writes such a file. `--json` prints the result as one JSON object. "
        "Results are written to standard output, and everything else to standard error.",
        _help(),
    ]
    for name in COMMANDS:
        parts.append(f"## {name}")
        tasks = TASKS if name == "finetune" else [None]
        for task in tasks:
            if task:
                parts.append(f"### {name} {task}")
            parts.append(_help(name, *([task] if task else [])))
    return "\n\n".join(parts) + "\n"


def _help(*words: str) -> str:
    """Return what ``--help-all`` prints, as a block of code."""
    columns, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "100"
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*words, "--help-all"])
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    return f"```text\n{printed.getvalue().strip()}\n```"


def notebook_page(path: Path) -> str:
    """Return a notebook as a page: its text, its code, and the outputs that it was saved with."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_output(output) for output in cell.get("outputs", [])]
        if len(parts) == 1:
            parts.append(f"This page is a notebook: [{path.name}]({SOURCE}/docs/notebooks/{path.name}).")
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        return f"![output](data:image/png;base64,{''.join(data['image/png']).strip()})"
    if "text/html" in data:
        return "".join(data["text/html"])
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"
