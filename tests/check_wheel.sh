#!/usr/bin/env bash
# Build the wheel, install it in a fresh environment and use it there: every module imports, mini-en embeds a sentence,
# and the code of the README runs.
# usage: tests/check_wheel.sh [PYTHON], the Python of an environment with the dependencies (default: .venv/bin/python)
set -euo pipefail
python=$(realpath -s "${1:-.venv/bin/python}")
cd "$(dirname "$0")/.."
tests=$PWD/tests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1

"$python" -m pip wheel --no-deps --wheel-dir "$work" .
"$python" -m venv --without-pip "$work/venv"
"$python" -m pip --python "$work/venv/bin/python" install --no-deps --no-index "$work"/*.whl
# This lends the dependencies but not the editable installation, since .pth files in a folder named by one are not read.
"$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))" > "$(echo "$work"/venv/lib/python3*/site-packages)/dependencies.pth"

cd "$work"
venv/bin/python - <<'PYTHON'
import importlib, pkgutil, sys
import elmolite

assert elmolite.__file__.startswith(sys.prefix), f"{elmolite.__file__} is not the installed package"
names = [module.name for module in pkgutil.walk_packages(elmolite.__path__, "elmolite.")]
missing = {"cli", "data", "embedding", "formats", "nn", "pretraining", "tasks", "utils"} - {name.split(".")[1] for name in names}
assert not missing, f"not in the wheel: {missing}"
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
assert elmolite.ELMo.from_pretrained("mini-en").embed(["The children play."])[0].shape == (3, 4, 256)
assert elmolite.TaskCheckpoint.from_pretrained("mini-en-upos").predict(["It works."])[0].labels == ("PRON", "VERB", "PUNCT")
print(f"wheel: {len(names)} modules import, mini-en embeds, mini-en-upos tags")
PYTHON
mkdir readme
XDG_CACHE_HOME=$work venv/bin/python "$tests/helpers/documents.py" "$tests/../README.md" readme
venv/bin/python -m elmolite --version
venv/bin/elmolite --version
