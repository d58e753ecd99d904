"""Damaged files of every kind are loaded or refused in one line; all of `make fuzz`."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: Kinds whose inputs take seconds to make.
LARGE = ("image bombs", "archive bombs")

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux does")


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import fuzz

        kinds = fuzz.kinds(tmp_path_factory.mktemp("fuzz"))
        yield fuzz, {kind.name: kind for kind in kinds}
        for name in [name for name in sys.modules if name.partition(".")[0] in ("fuzz", "fuzzing")]:
            del sys.modules[name]


def test_a_sample_of_damaged_files_is_loaded_or_refused(fuzz, tmp_path):
    module, kinds = fuzz
    records = [
        record
        for name, kind in kinds.items()
        if name not in LARGE
        for record in module.run(kind, kind.count(200), 3, tmp_path)
    ]
    assert len(records) >= 200
    assert [each for each in records if each["outcome"] not in module.FINE] == []
    assert sum(each["deep"] for each in records) > len(records) / 2
    assert {each["outcome"] for each in records} == {"loaded", "refused"}


def test_what_must_not_be_is_found(fuzz, tmp_path, monkeypatch):
    """The fuzzer itself: a traceback, a crash, a hang, memory, a message that does not name the file, executed code."""
    module, _ = fuzz
    monkeypatch.setattr(module, "MOST", 10**8)  # less than a machine short of memory needs half a minute to fill

    def outcome(load, expected):
        kind = module.Kind("faulty", 1, lambda rng, number: {"file": b"x"}, load, lambda folder: True)
        found = module.run(kind, 1, 0, tmp_path)[0]
        assert found["outcome"] == expected, found

    def raises(error):
        raise error

    outcome(lambda folder: None, "loaded")
    outcome(lambda folder: raises(OSError(2, "No such file", str(folder))), "refused")
    outcome(lambda folder: raises(OSError("no name")), "unnamed")
    outcome(lambda folder: raises(KeyError("x")), "traceback")
    outcome(lambda folder: raises(RecursionError()), "traceback")
    outcome(lambda folder: os.abort(), "crash")
    # twice the limit: short of memory, the system takes pages of files from the process meanwhile
    outcome(lambda folder: len(b"x" * 200_000_000), "memory")
    outcome(lambda folder: len(b"x" * 10_000_000), "loaded")
    outcome(lambda folder: bytearray(10**11), "memory")
    outcome(lambda folder: (folder / module.MARK).touch(), "executed")
    outcome(lambda folder: sum(range(10**10)), "hang")


def test_garbage_freed_meanwhile_is_not_taken_for_memory_spared(fuzz, tmp_path, monkeypatch):
    module, _ = fuzz
    monkeypatch.setattr(module, "MOST", 10**8)
    gc.disable()
    try:
        garbage = [b"x" * 300_000_000]
        garbage.append(garbage)
        del garbage

        def load(folder):
            gc.collect()
            return len(b"x" * 200_000_000)

        kind = module.Kind("faulty", 1, lambda rng, number: {"file": b"x"}, load, lambda folder: True)
        assert module.run(kind, 1, 0, tmp_path)[0]["outcome"] == "memory"
    finally:
        gc.enable()
        gc.collect()


def test_free_memory_used_again_counts(fuzz, tmp_path, monkeypatch):
    """As in a process that has run for long: its heap has a large hole, from which an input's memory is taken."""
    module, _ = fuzz
    monkeypatch.setattr(module, "MOST", 10**8)
    bytes(30_000_000)  # once freed, glibc takes blocks up to this size from the heap
    size = 10**7
    hole, above = [b"x" * size for _ in range(40)], b"x" * size
    del hole
    kind = module.Kind(
        "faulty", 1, lambda rng, number: {"file": b"x"}, lambda f: len(b"x" * 200_000_000), lambda f: True
    )
    assert module.run(kind, 1, 0, tmp_path)[0]["outcome"] == "memory"
    assert len(above)
