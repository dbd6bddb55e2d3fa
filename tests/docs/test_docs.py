"""The documentation: its code runs, what it names exists, and the site builds without a warning."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.documents import read_blocks, run_page

import elmolite
from elmolite.cli.commands import Result
from elmolite.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
WRITTEN = [path for path in PAGES if read_blocks(path.read_text(encoding="utf-8"))]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, *WRITTEN], ids=lambda path: path.stem)
def test_the_code_of_a_page_runs(page, tmp_path, own_cache, no_pictures):
    assert run_page(page, tmp_path) > 0


def test_the_readme_is_short():
    assert README.stat().st_size <= 10_000


def test_the_readme_links_to_pages_and_files_that_exist():
    # An index of packages shows the file without the repository: all links are absolute.
    links = re.findall(r"\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    site, files = "https://elmolite.github.io/elmolite/", "https://github.com/elmolite/elmolite/blob/main/"
    missing = [link for link in links if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith(files):
            missing += [] if (ROOT / path.removeprefix(files)).is_file() else [link]
        elif path.startswith(site):
            page = ROOT / "docs" / (f"{path.removeprefix(site).rstrip('/') or 'index'}.md")
            has_anchor = page in PAGES and (not anchor or anchor in anchors(page))
            generated = path.endswith("reference/commands/")  # the build of the site checks it
            missing += [] if generated or has_anchor else [link]
    assert missing == []


def anchors(page):
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "name", ["CONTRIBUTING.md", "recipes/README.md", "recipes/bench/README.md", "recipes/distributed/README.md"]
)
def test_named_files_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"(?<!-)(?:elmolite|tests|recipes|checkpoints)/[\w./-]+\.(?:py|md|yaml|sh)", text)
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    missing = [path for path in named if "NAME" not in path and not (ROOT / path).exists()]
    missing += [link for link in links if not ((ROOT / name).parent / link).exists()]
    assert missing == []


def test_the_map_names_every_package_and_no_other():
    table = re.search(r"\| package \|.*?\n\n", README.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
    rows = table.strip().splitlines()
    named = {name.rstrip("/") for row in rows for name in re.findall(r"`(\w+/?)`", row.split("|")[1])}
    package = ROOT / "elmolite"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    modules = {path.stem for path in package.glob("*.py") if not path.name.startswith("__")}
    deprecated = {path.stem for path in package.glob("*.py") if path.read_text().startswith('"""Deprecated')}
    assert named == folders | modules - deprecated


def test_every_public_name_has_an_entry_in_the_reference():
    text = "".join((ROOT / "docs" / "reference" / f"{name}.md").read_text() for name in ("api", "settings"))
    assert sorted(re.findall(r"^::: elmolite\.(\w+)$", text, flags=re.MULTILINE)) == sorted(elmolite.__all__)


def test_the_example_of_a_command_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = {"Sequence": Sequence, "Result": Result}
    exec(re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)[1], names)
    monkeypatch.setitem(COMMANDS, "count", names["count"])
    (tmp_path / "a.txt").write_text("a word or two\n")
    assert main(["count", str(tmp_path / "a.txt"), "--min-length", "3"]) == 0
    assert capsys.readouterr().out == "2 words\n"


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    # Strict: a broken link or anchor, or a name that the reference does not find, ends the build.
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    pages = {path.relative_to(tmp_path): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    requested = re.compile(r'<(?:script|img|link rel="(?:stylesheet|preload)")[^>]+(?:src|href)="https?://')
    assert [str(path) for path, text in pages.items() if requested.search(text)] == []
    assert "<math" in pages[Path("how-elmo-works/index.html")]
    assert "<blockquote>" not in pages[Path("reference/api/index.html")]  # examples are code
    assert "--learning-rate" in pages[Path("reference/commands/index.html")]


@pytest.mark.notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_run(path, tmp_path, own_cache, monkeypatch):
    pytest.importorskip("nbclient", reason="the extra docs is not installed")
    import nbclient
    import nbformat

    monkeypatch.setenv("PYTHONWARNINGS", "default")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"\bmax_steps=[\d_]+", "max_steps=3", re.sub(r"\bn_epochs=\d+", "n_epochs=1", cell.source))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(cell.get("outputs") for cell in notebook.cells)
