"""Importing the package, and asking it for help, does nothing else: no process, no socket, no file."""

import ast
import json
import os
import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import elmolite

WATCHED = """
import json, os, sys

seen = []
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.move")

def watch(event, arguments):
    if event in STARTS + CHANGES or event.startswith(("socket.", "tempfile.")):
        seen.append([event, repr(arguments)[:200]])
    elif event == "open" and isinstance(arguments[2], int):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            seen.append([event, repr(arguments)[:200]])

sys.addaudithook(watch)
{statement}
HEAVY = ("lightning", "datasets", "h5py", "triton", "torch._dynamo")
print("\\n" + json.dumps([seen, [name for name in HEAVY if name in sys.modules]]))
"""
AFTER_TORCH = "import torch; seen.clear(); "
"""It tries whether it can write a temporary file, and opens the null device."""
STATEMENTS = {
    "import elmolite": "import elmolite",
    "help": "from elmolite.cli.main import main; main(['--help'])",
    "embedding": f"{AFTER_TORCH} import elmolite.embedding.elmo",
    "loading": f"{AFTER_TORCH} import elmolite; elmolite.ELMo.from_pretrained('mini-en')",
    "readers": f"{AFTER_TORCH} import elmolite.formats.loading, elmolite.tasks.checkpoint, elmolite.embedding.output",
}


def watched(statement):
    """Run a statement in a process of its own: what was seen, and which heavy packages were imported."""
    own = "-B"  # the interpreter writes bytecode of its own accord
    command = [sys.executable, own, "-c", WATCHED.replace("{statement}", statement)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(result.stdout.splitlines()[-1])


def test_type_checkers_see_the_public_names():
    """Those that are imported when they are used, from the same modules."""
    tree = ast.parse(Path(elmolite.__file__).read_text(encoding="utf-8"))
    imports = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module.startswith("elmolite.")
    ]
    seen = {alias.name: node.module.removeprefix("elmolite.") for node in imports for alias in node.names}
    del seen["set_openmp_defaults"]
    assert seen == elmolite._HOMES
    assert elmolite.__all__ == sorted(elmolite._HOMES)
    assert all(hasattr(elmolite, name) for name in elmolite.__all__)
    assert not hasattr(elmolite, "Elmo")


def test_the_public_names_are_listed():
    assert {*elmolite.__all__, "__version__"} <= set(dir(elmolite))
    assert elmolite.__version__ == version("elmolite")


@pytest.mark.parametrize("eager", ["", "1"])
def test_tools_that_read_the_namespace_find_the_public_names_if_asked(monkeypatch, eager):
    monkeypatch.setenv("EAGER_IMPORT", eager)
    found = runpy.run_path(elmolite.__file__)
    assert {name: found[name] for name in elmolite.__all__ if name in found} == (
        {name: getattr(elmolite, name) for name in elmolite.__all__} if eager else {}
    )


@pytest.mark.parametrize("is_imported", [False, True])
def test_openmp_is_set_before_torch_is_imported(monkeypatch, is_imported):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if not is_imported:
        monkeypatch.delitem(sys.modules, "torch")
    runpy.run_path(elmolite.__file__)
    assert ("GOMP_SPINCOUNT" in os.environ) != is_imported


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_nothing_happens(statement):
    assert watched(statement) == [[], []]


def test_what_happens_is_seen():
    statements = (
        "import subprocess, socket",
        "subprocess.run(['true'])",
        "socket.socket().close()",
        "open(os.devnull, 'w')",
    )
    seen = {event for event, _ in watched("; ".join(statements))[0]}
    assert seen >= {"subprocess.Popen", "socket.__new__", "open"}


def test_embedding_needs_few_packages():
    """Only torch, numpy, safetensors, tokenizers and tqdm of what is installed with the package."""
    blocked = ["lightning", "datasets", "pandas", "pyarrow", "jsonargparse", "yaml", "h5py", "loky", "huggingface_hub"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
    code += "from elmolite import ELMo; print(ELMo.from_pretrained('mini-en').embed(['The children play.'])[0].shape)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "(3, 4, 256)\n"
