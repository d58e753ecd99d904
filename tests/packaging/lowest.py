"""Print the lowest versions that pyproject.toml allows the package proper, for pip: ``torch==2.9.0 ...``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def lowest(requirements: list[str]) -> list[str]:
    """Turn ``name>=version`` into ``name==version``; a requirement without a lower bound is an error."""
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement) for requirement in requirements]
    unbounded = [requirement for requirement, match in zip(requirements, found, strict=True) if match is None]
    if unbounded:
        raise SystemExit(f"pyproject.toml: no lower bound: {', '.join(unbounded)}")
    return [f"{match[1]}=={match[2]}" for match in found if match]


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    print(*lowest(project["dependencies"]))
