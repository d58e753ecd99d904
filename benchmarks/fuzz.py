"""Damaged files of every kind that is read: each is loaded, or refused in one line that names it, and nothing else.

Inputs are functions of the seed and their number: whole files, changed in their bytes, fields, keys, values, sizes and
parts, and files that are small on the disk and large in memory. They are read in forked processes with the functions
that the commands use. Never is there an exception that ``falign`` would show with its traceback, a hang over two
seconds, more than 1 GB of memory above the idle process, a crash, or code executed from a pickle. Linux. Run it as

    python benchmarks/fuzz.py --inputs 10000 --out results/fuzz/cpu.json
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from fuzzing.kinds import Kind, kinds
from fuzzing.models import MARK

from feature_alignment.cli.errors import explain

#: Seconds of computing after which an input hangs, and after which its process is killed; and of waiting for it.
SLOW, KILLED, SILENT = 2.0, 10.0, 600.0
#: Memory above the idle process that an input may take, and that it can at most, in bytes.
MOST, LIMIT = 10**9, 4 * 10**9
#: What may come of an input.
FINE = ("loaded", "refused")


def attempt(kind: Kind, number: int, seed: int, folder: Path) -> dict[str, Any]:
    """Write and read one input; return what came of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)
    kind.write(folder, number, seed)
    _give_back()
    idle, begun = _memory("VmRSS"), (time.perf_counter(), time.process_time())
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    signal.setitimer(signal.ITIMER_PROF, KILLED)
    outcome, said = _outcome(kind, folder)
    signal.setitimer(signal.ITIMER_PROF, 0)
    found = {
        "outcome": outcome, "said": said, "seconds": round(_since(*begun), 2),
        "megabytes": (_memory("VmHWM") - idle) // 10**6,
    }  # fmt: skip
    if (folder / MARK).exists():
        found["outcome"] = "executed"
    elif found["megabytes"] * 10**6 > MOST:
        found["outcome"] = "memory"
    elif found["seconds"] > SLOW:
        found["outcome"] = "hang"
    return found | {"deep": kind.is_deep(folder)}


def _since(wall: float, own: float) -> float:
    """Return the seconds since then, without those in which other processes had the processor."""
    return min(time.perf_counter() - wall, time.process_time() - own)


def _outcome(kind: Kind, folder: Path) -> tuple[str, str]:
    try:
        kind.read(folder)
    except BaseException as error:
        line = explain(error) if isinstance(error, Exception) else None
        if line is None:
            return "traceback", "".join(traceback.format_exception(error)[-6:])[-1500:]
        if line.startswith("out of memory"):
            return "memory", line
        return ("refused", line) if str(folder) in line or kind.names(line) else ("unnamed", line)
    return "loaded", ""


def _give_back() -> None:
    """Return free memory to the system: freed, or used again, while an input is read, it would hide what that takes."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)


def _memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(field)).split()[1])


def forked(kind: Kind, numbers: list[int], seed: int, scratch: Path) -> dict[int, dict[str, Any]]:
    """Return what came of some inputs, read one after the other by processes that may crash and hang."""
    found: dict[int, dict[str, Any]] = {}
    while rest := [number for number in numbers if number not in found]:
        ours, theirs = os.pipe()
        process = os.fork()
        if process == 0:
            _child(kind, rest, seed, scratch, theirs)
        os.close(theirs)
        with os.fdopen(ours) as pipe:
            while select.select([pipe], [], [], SILENT)[0] and (line := pipe.readline()):
                found |= {int(number): each for number, each in json.loads(line).items()}
        os.kill(process, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if missing := [number for number in rest if number not in found]:
            outcome = "hang" if code in (-signal.SIGKILL, -signal.SIGPROF) else "crash"
            found[missing[0]] = {"outcome": outcome, "said": f"exit code {code}", "seconds": KILLED, "deep": True}
    return found


def _child(kind: Kind, numbers: list[int], seed: int, scratch: Path, pipe: int) -> None:
    """Read inputs and report each; never return."""
    try:
        gc.collect()
        gc.freeze()  # later collections are quick
        torch.set_num_threads(1)  # a forked process has none of the threads that computed before
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + LIMIT,) * 2)
        os.environ["FALIGN_CACHE"] = str(scratch / "cache")
        for number in numbers:
            shutil.rmtree(scratch / "cache", ignore_errors=True)
            found = attempt(kind, number, seed, scratch / "input")
            os.write(pipe, (json.dumps({number: found}) + "\n").encode())
    except BaseException:
        os.write(pipe, (json.dumps({-1: {"broken": traceback.format_exc()}}) + "\n").encode())
    finally:
        os._exit(0)


def run(kind: Kind, count: int, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """Return what came of the inputs of a kind."""
    found = forked(kind, list(range(count)), seed, scratch)
    if -1 in found:
        raise RuntimeError(found[-1]["broken"])
    return [{"kind": kind.name, "number": number, **each} for number, each in sorted(found.items())]


def summary(records: list[dict[str, Any]], options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for each in records:
        by_kind[each["kind"]].update([each["outcome"], "inputs", *(["past the header"] if each["deep"] else [])])
    faults = [each for each in records if each["outcome"] not in FINE]
    return {
        "command": f"python benchmarks/fuzz.py --inputs {options.inputs} --seed {options.seed}",
        "inputs": len(records), "past the header": sum(each["deep"] for each in records),
        "outcomes": dict(Counter(each["outcome"] for each in records)), "faults": faults,
        "by kind": {kind: dict(counts) for kind, counts in by_kind.items()},
        "slowest, seconds": max(each["seconds"] for each in records),
        "most memory above idle, MB": max(each.get("megabytes", 0) for each in records),
        "seconds": round(seconds), "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", help="read only these kinds")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    begun, records, out = time.perf_counter(), [], options.out and options.out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FALIGN_CACHE"] = str(Path(folder) / "cache")
        for kind in kinds(Path(folder)):
            if not options.kind or kind.name in options.kind:
                records += run(kind, kind.count(options.inputs), options.seed, Path(folder))
                print(f"{kind.name}: {dict(Counter(each['outcome'] for each in records if each['kind'] == kind.name))}",
                      file=sys.stderr, flush=True)  # fmt: skip
    found = summary(records, options, time.perf_counter() - begun)
    for fault in found["faults"]:
        print(json.dumps(fault))
    print(json.dumps({name: value for name, value in found.items() if name != "faults"}, indent=1))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n")
    return bool(found["faults"])


if __name__ == "__main__":
    sys.exit(main())
