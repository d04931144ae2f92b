"""Print the requirements that pyproject.toml lists: requirements.py build | <name of an extra>."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(
    (Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8")
)
group = sys.argv[1]
if group == "build":
    wanted = project["build-system"]["requires"]
else:
    wanted = project["project"]["optional-dependencies"][group]
print("\n".join(wanted))
