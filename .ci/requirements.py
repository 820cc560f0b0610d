"""The packages that a set of pyproject.toml asks for, one a line: `python .ci/requirements.py dev`.

pip can only install them together with the project, which would compile it once more.
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
name = project["project"]["name"]


def requirements(extra: str) -> set[str]:
    found = set()
    for requirement in project["project"]["optional-dependencies"][extra]:
        own = re.fullmatch(rf"{name}\[(.*)\]", requirement)
        found |= set().union(*map(requirements, own[1].split(","))) if own else {requirement}
    return found


print(
    *sorted(
        {
            *project["build-system"]["requires"],
            *project["project"]["dependencies"],
            *requirements(sys.argv[1]),
        }
    ),
    sep="\n",
)
