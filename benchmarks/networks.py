"""Which networks can be aligned and inverted: writes the table ``docs/networks.md``.

Goes through the zoo of ``tests/architectures`` (``pip install timm transformers torchvision``; no weights are
downloaded). Gradients through ``align`` are compared with Algorithm 1 typed out, in float64, for T = 1 and 2, a shared
start and one for every sample; ``invert`` seeks inputs with the network's own outputs for two others.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from architectures import ARCHITECTURES, Architecture
from architectures.contract import gradient_difference, inverted, true_residual

from feature_alignment.core.pullback import path_of

TOLERANCE = 1e-2
COLUMNS = ("network", "library", "parameters", "path", "gradient", "evaluations", "residual", "remark")


@dataclass
class Row:
    """One network of the table.

    Attributes:
        network, library, parameters: what it is; the number of its weights.
        path: how it is differentiated: by ``rule``, ``torch.func`` or ``autograd``.
        gradient: the largest difference to Algorithm 1, relative to the largest entry; None if there was an error.
        evaluations: the most that a sample took.
        residual: the largest of both samples, true: evaluated anew.
        exact, reached: whether ``gradient`` and ``residual`` are as small as they should be.
        remark: why not, where not.
        seconds: that all of it took.
    """

    network: str
    library: str
    parameters: int
    path: str = ""
    gradient: float | None = None
    evaluations: int | None = None
    residual: float | None = None
    exact: bool = False
    reached: bool = False
    remark: str = ""
    seconds: float = 0.0


def measure(architecture: Architecture) -> Row:
    """Put one network to the test."""
    begun, network = time.perf_counter(), architecture.build()
    weights = network.parameters() if isinstance(network, nn.Module) else ()
    row = Row(architecture.name, architecture.library, sum(each.numel() for each in weights))
    remarks = []
    for part in (_path, _gradients, _inversion):
        try:
            part(architecture, row, remarks)
        except Exception as error:
            remarks.append(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    row.remark, row.seconds = "; ".join(remarks), round(time.perf_counter() - begun, 1)
    return row


def _path(architecture: Architecture, row: Row, remarks: list[str]) -> None:
    row.path = path_of(architecture.build(), architecture.inputs(1, 4))


def _gradients(architecture: Architecture, row: Row, remarks: list[str]) -> None:
    cases = [(steps, shared) for steps in (1, 2) for shared in (True, False)]
    row.gradient = max(gradient_difference(architecture, *case) for case in cases)
    row.exact = row.gradient < architecture.tolerance
    if architecture.tolerance > 1e-8:
        remarks.append("computes parts in float32")


def _inversion(architecture: Architecture, row: Row, remarks: list[str]) -> None:
    network, target, found = inverted(architecture, TOLERANCE)
    row.residual = float(true_residual(network, target, found).max())
    row.evaluations, row.reached = int(found.evaluations.max()), row.residual <= TOLERANCE
    if not row.reached:
        spent = row.evaluations >= 1000 - 3  # what another step would cost
        remarks.append("evaluations used up" if spent else "no direction found along which the error falls")


def table(rows: list[Row]) -> str:
    """Return the page: what was counted, and a line for every network."""
    lines = [
        "# Networks",
        "",
        f"Of {len(rows)} networks, gradients through `align` are exact for {sum(row.exact for row in rows)}; `invert`",
        f"reaches a relative residual of {TOLERANCE:g} for {sum(row.reached for row in rows)}.",
        "",
        f"Written by `python benchmarks/networks.py` on {date.today()}, with PyTorch {torch.__version__};",
        "the networks are those of `tests/architectures`: narrow, short, random weights, float64, eval mode.",
        "",
        "- *path*: how derivatives are taken, by layer rules (`rule`), `torch.func` or plain `autograd`: of a chain",
        "  of layers the last of these that one of them needs. Nobody has to choose.",
        "- *gradient*: the largest difference between gradients through `align` (with respect to weights, start and",
        "  target; T = 1 and 2; shared and own starts) and those of Algorithm 1, relative to the largest entry.",
        "- *evaluations*: the most that `invert` needed for a sample, of 1,000, to inputs with the network's outputs",
        "  for two random others; *residual*: what it reached, evaluated again.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|---|--:|---|--:|--:|--:|---|",
    ]
    return "\n".join([*lines, *map(_line, rows), ""])


def _line(row: Row) -> str:
    gradient = "" if row.gradient is None else f"{row.gradient:.0e}"
    residual = "" if row.residual is None else f"{row.residual:.2g}"
    evaluations = "" if row.evaluations is None else str(row.evaluations)
    cells = [row.network, row.library, f"{row.parameters:,}", row.path, gradient, evaluations, residual, row.remark]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the networks of the fast tests")
    parser.add_argument("--out", type=Path, default=Path("docs/networks.md"), help="page to write; not with --quick")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for architecture in ARCHITECTURES.values():
        if architecture.quick or not options.quick:
            rows.append(measure(architecture))
            print(_line(rows[-1]), file=sys.stderr, flush=True)
    result = {
        "benchmark": "networks",
        "device": f"cpu ({torch.get_num_threads()} threads)",
        "torch": torch.__version__,
        "count": len(rows),
        "gradients_exact": sum(row.exact for row in rows),
        "inverted": sum(row.reached for row in rows),
        "seconds": round(sum(row.seconds for row in rows), 1),
        "networks": {row.network: asdict(row) for row in rows},
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if not options.quick:
        options.out.write_text(table(rows))


if __name__ == "__main__":
    main()
