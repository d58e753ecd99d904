"""Mutation testing of the core: what share of small faults put into it do its tests notice?

cosmic-ray finds the places and makes the changes: operators, comparisons, numbers, booleans, loops, decorators. The
sample is of places, by the seed, with one change at each; annotations are left out, since nothing evaluates them.
Coverage tells which tests run a line, and only those are run on a mutant of it, the quickest first and for at most
``--seconds`` of the time that they take on the code as it is. A mutant is killed by a test that fails, an import that
fails, or a process that takes ten times as long. Every mutant runs in a forked process, on a copy of the sources.
Linux. Run it as

    python benchmarks/mutate.py --mutants 300 --out results/mutants/cpu.json

``--again FILE`` leaves out the mutants that were killed in an earlier run of the same sample, as when tests were added.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import io
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import numpy  # noqa: F401  (before the fork: what every mutant's process would import otherwise)
import pytest
import torch
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code, use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec

ROOT = Path(__file__).resolve().parent.parent
CORE = Path("src/feature_alignment/core")
TESTS = ["tests/core", "tests/test_diagnosis.py", str(CORE)]
FAILED = {0: "survived", 1: "killed", 2: "killed", 3: "killed", 4: "killed", 5: "survived"}  # pytest's exit codes


class Job(NamedTuple):
    """A mutant and the tests that run its line, with the seconds that they take on the code as it is."""

    spec: MutationSpec
    tests: list[str]
    seconds: float


def copy_of_the_project(folder: Path) -> Path:
    """Copy what the tests need; return the copy."""
    for name in ("src", "tests", "examples", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "conftest.py", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def covering(folder: Path) -> tuple[dict[tuple[str, int], list[str]], dict[str, float]]:
    """Return the tests that run each line of the core, and the seconds that each test takes."""
    data, report = folder / ".coverage", folder / "times.xml"
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-m", "not slow", *TESTS, "-p", "no:cacheprovider"),
        *(f"--cov={CORE}", "--cov-context=test", "--cov-report="),
        *(f"--junitxml={report}", "-o", "junit_family=xunit1"),
    ]
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "COVERAGE_FILE": str(data), "OMP_NUM_THREADS": "1"}
    if subprocess.run(command, cwd=folder, env=environment).returncode:
        raise SystemExit("the tests of the core fail on the code as it is: mend that first")
    lines: dict[tuple[str, int], list[str]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    found = coverage.CoverageData(str(data))
    found.read()
    for file in found.measured_files():
        name = str(Path(file).relative_to(folder))
        for line, contexts in found.contexts_by_lineno(file).items():
            lines[name, line] = sorted({each.rpartition("|")[0] for each in contexts if each})
    for name, took in _durations(report):
        seconds[name] += took
    return lines, seconds


def _durations(report: Path) -> list[tuple[str, float]]:
    from xml.etree import ElementTree

    cases = ElementTree.parse(report).getroot().iter("testcase")
    return [(f"{each.get('file')}::{each.get('name')}", float(each.get("time", 0))) for each in cases]


def mutants(folder: Path) -> list[MutationSpec]:
    """Return all mutants of the core of the copy in ``folder``, but for those of annotations."""
    database = WorkDB(folder / "mutants.sqlite", WorkDB.Mode.create)
    files = sorted((folder / CORE).rglob("*.py"))
    init(files, database, {})
    unread = {file: _annotations(file.read_text()) for file in files}
    found = [each for item in database.work_items for each in item.mutations]
    database.close()
    return [
        each for each in found if not any(first <= each.start_pos < last for first, last in unread[each.module_path])
    ]


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where annotations begin and end."""
    nodes = ast.walk(ast.parse(source))
    found = [getattr(node, name, None) for node in nodes for name in ("annotation", "returns")]
    return [
        ((each.lineno, each.col_offset), (each.end_lineno or 0, each.end_col_offset or 0))
        for each in found
        if isinstance(each, ast.expr)
    ]


def sample(found: list[MutationSpec], count: int, seed: int) -> tuple[list[MutationSpec], int]:
    """Return ``count`` mutants of different places, drawn by place and then by change, and the number of places."""
    draws, places = random.Random(seed), defaultdict(list)
    for each in found:
        places[each.module_path, each.start_pos, each.end_pos].append(each)
    chosen: list[MutationSpec] = []
    for place in draws.sample(sorted(places), len(places)):
        changes = draws.sample(places[place], len(places[place]))
        chosen += [each for each in changes if len(chosen) < count and _compiles(each)][:1]
    return chosen, len(places)


def _compiles(spec: MutationSpec) -> bool:
    """Say whether it is Python at all: cosmic-ray takes the star before keyword-only arguments for a product."""
    operator = get_operator(spec.operator_name)(**spec.operator_args)
    try:
        compile(mutate_code(spec.module_path.read_text(), operator, spec.occurrence) or "", "mutant", "exec")
    except SyntaxError:
        return False
    return True


def jobs(specs: list[MutationSpec], folder: Path, longest: float) -> list[Job]:
    """Give every mutant the tests that run its line; of a line outside functions, those that run any of its file."""
    lines, seconds = covering(folder)
    inside = {spec.module_path: _bodies(spec.module_path.read_text()) for spec in specs}
    found = []
    for spec in specs:
        name, tests, total = str(spec.module_path.relative_to(folder)), [], 0.0
        changed = set(range(spec.start_pos[0], spec.end_pos[0] + 1)) & inside[spec.module_path]
        run = {test for line in changed or inside[spec.module_path] for test in lines[name, line]}
        for test in sorted(run, key=lambda each: (seconds[each], each)):
            if total + seconds[test] <= longest or not tests:
                tests.append(test)
                total += seconds[test]
        found.append(Job(spec, tests, total))
    return found


def _bodies(source: str) -> set[int]:
    """Return the lines inside functions: the others run once, at import, whichever test comes first."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return {line for each in functions for line in range(each.body[0].lineno, (each.end_lineno or 0) + 1)}


def work(job: Job, original: Path, folder: Path) -> dict[str, Any]:
    """Run a mutant in the copy ``folder``; return its record."""
    path = folder / job.spec.module_path.relative_to(original)
    operator = get_operator(job.spec.operator_name)(**job.spec.operator_args)
    begun = time.perf_counter()
    with use_mutation(path, operator, job.spec.occurrence) as (before, after):
        outcome = run_tests(folder, job.tests, 60 + 10 * job.seconds) if job.tests else "survived"
    change = difflib.unified_diff(before.splitlines(), (after or "").splitlines(), n=0, lineterm="")
    return {
        "file": str(path.relative_to(folder)),
        "line": job.spec.start_pos[0],
        "operator": job.spec.operator_name.removeprefix("core/"),
        "occurrence": job.spec.occurrence,
        "change": [line for line in change if line[:1] in "+-" and line[:3] not in ("+++", "---")],
        "tests": len(job.tests),
        "outcome": outcome,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def run_tests(folder: Path, tests: list[str], limit: float) -> str:
    """Run tests in a forked process, which has a session of its own so that all of it can be stopped."""
    process = os.fork()
    if process == 0:
        os.setsid()
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        os.chdir(folder)
        sys.path.insert(0, str(folder / "src"))
        sys.dont_write_bytecode = True
        code = 3
        with contextlib.suppress(BaseException), contextlib.redirect_stdout(io.StringIO()):
            code = int(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--no-cov", *tests]))
        os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return FAILED.get(os.waitstatus_to_exitcode(status), "killed")
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "killed: out of time"


def worker(original: Path, folder: Path, todo: Any, done: Any) -> None:
    """Work through mutants on a copy of one's own."""
    torch.set_num_threads(1)
    copy_of_the_project(folder)
    while (job := todo.get()) is not None:
        done.put(work(job, original, folder))


def interval(killed: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of 95 % for a share."""
    share, scale = killed / count, 1 + z * z / count
    middle, half = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return (middle - half) / scale, (middle + half) / scale


def name_of(spec: MutationSpec, folder: Path) -> tuple[Any, ...]:
    """Return what tells a mutant from others, in any copy."""
    file = str(spec.module_path.relative_to(folder))
    return file, spec.start_pos[0], spec.operator_name.removeprefix("core/"), spec.occurrence


def run(
    count: int, seed: int, processes: int, longest: float, before: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], int]:
    """Run a sample of mutants but those killed ``before``; return all records and the number of places there are."""
    killed = {
        (each["file"], each["line"], each["operator"], each["occurrence"]): each
        for each in before
        if each["outcome"] != "survived"
    }
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as name:
        original = copy_of_the_project(Path(name, "original"))
        specs, places = sample(mutants(original), count, seed)
        records = [killed[name_of(each, original)] for each in specs if name_of(each, original) in killed]
        chosen = jobs([each for each in specs if name_of(each, original) not in killed], original, longest)
        todo, done = context.Queue(), context.Queue()
        for each in [*chosen, *[None] * processes]:
            todo.put(each)
        for number in range(processes):
            folder = Path(name, str(number))
            context.Process(target=worker, args=(original, folder, todo, done), daemon=True).start()
        for number in range(len(chosen)):
            records.append(done.get())
            print(f"{number + 1} of {len(chosen)}: {records[-1]}", file=sys.stderr, flush=True)
    return sorted(records, key=lambda each: (each["file"], each["line"], each["operator"])), places


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mutants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--seconds", type=float, default=40.0, help="of tests a mutant, as they take on the code as it is"
    )
    parser.add_argument("--again", type=Path, help="an earlier result of the same sample: its killed mutants are kept")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    begun = time.perf_counter()
    before = json.loads(asked.again.read_text())["records"] if asked.again else []
    records, places = run(asked.mutants, asked.seed, asked.processes, asked.seconds, before)
    killed = sum(each["outcome"] != "survived" for each in records)
    low, high = interval(killed, len(records))
    result = {
        "mutants": len(records), "places": places, "seed": asked.seed, "killed": killed,
        "share": round(killed / len(records), 4), "interval": [round(low, 4), round(high, 4)],
        "minutes": round((time.perf_counter() - begun) / 60, 1), "records": records,
    }  # fmt: skip
    print(json.dumps({name: value for name, value in result.items() if name != "records"}))
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
