"""Run every benchmark, one after the other, and write their JSON and one table.

Each is a process of its own, so that none inherits another's memory. What it writes is named after the kind of
device: ``cpu.json`` and ``cpu.md``, or ``gpu``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("training_step", "layered", "memory", "sampling", "inversion", "data")


def rows(place: str, value: Any) -> list[tuple[str, str]]:
    """Return the numbers under a key, one row for each: nested keys joined by dots."""
    if isinstance(value, dict):
        return [row for key, each in value.items() for row in rows(f"{place}.{key}" if place else key, each)]
    if isinstance(value, list):
        return [(place, ", ".join(f"{each:.4g}" if isinstance(each, float) else str(each) for each in value))]
    return [(place, f"{value:.4g}" if isinstance(value, float) else str(value))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"), help="directory to write")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found, begun = {}, time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        for name in NAMES:
            print(f"{name} ...", file=sys.stderr, flush=True)
            file = Path(scratch) / f"{name}.json"
            script = Path(__file__).with_name(f"{name}.py")
            subprocess.run([sys.executable, script, "--json", file], check=True, stdout=subprocess.DEVNULL)
            found[name] = json.loads(file.read_text())
    kind = "cpu" if "cpu" in str(found["sampling"]["device"]) else "gpu"
    lines = [f"# Benchmarks, {found['sampling']['device']}, PyTorch {found['sampling']['torch']}", ""]
    lines += [f"All of them took {time.perf_counter() - begun:.0f} s. What they mean: docs/performance.md.", ""]
    for name, result in found.items():
        table = [f"| {key} | {value} |" for key, value in rows("", result)]
        lines += [f"## {name}", "", "| key | value |", "|---|---|", *table, ""]
    (options.out / f"{kind}.json").write_text(json.dumps(found, indent=2) + "\n")
    (options.out / f"{kind}.md").write_text("\n".join(lines))
    print(f"Wrote {options.out / kind}.json and {options.out / kind}.md")


if __name__ == "__main__":
    main()
