"""What `make test-lowest` installs is what pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_TESTED = {"torch"}


def test_the_lowest_versions_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = project["dependencies"] + extras["datasets"] + extras["plot"] + extras["test"]
    bounds = dict(re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement).groups() for requirement in requirements)
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert tested.keys() >= bounds.keys()
    for name in bounds.keys() - NOT_TESTED:
        n_parts = tested[name].count(".") + 1
        assert [*bounds[name].split("."), "0", "0"][:n_parts] == tested[name].split("."), name
