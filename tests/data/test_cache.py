"""The cache: sets larger than the memory or the disk, several processes, killed ones."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from image_files import write_image

from feature_alignment.data import DataError, Images, cache, load
from feature_alignment.data.cache import memory_map, store


def test_a_set_larger_than_the_memory_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path))
    count = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 2 // (3 * 64 * 64)

    def build(directory):
        try:  # a file of holes, which takes no room on the disk
            pixels = np.lib.format.open_memmap(directory / "images.npy", "w+", np.uint8, (count, 3, 64, 64))
        except OSError as error:
            pytest.skip(f"no such file here: {error}")
        pixels[-1] = 7
        return {"count": count, "classes": []}

    found = cache.cached("huge", build)
    images = Images("huge", "train", found.pixels, None, ())
    pixels, labels = images.chosen(torch.tensor([count - 1, 0]))
    assert pixels.flatten(1).float().mean(1).tolist() == [7.0, 0.0]
    assert labels is None


def test_a_set_that_does_not_fit_on_the_disk_is_refused_before_it_is_begun(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    for number in range(1000):
        (tmp_path / f"{number}.png").touch()
    with pytest.raises(
        DataError, match=r"900 images of 3 x 64 x 64 need 0.011 GB, 0.010 GB are free; set FALIGN_CACHE"
    ):
        load(str(tmp_path), "train")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs a system that reserves space")
def test_the_space_of_a_set_is_taken_before_it_is_written(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    memory_map(tmp_path / "one", (50, 3, 64, 64))
    assert (tmp_path / "one" / "images.npy").stat().st_blocks * 512 >= 50 * 3 * 64 * 64

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)  # another process was quicker
    with pytest.raises(DataError, match=r"50 images of 3 x 64 x 64 need 0.001 GB, .* GB are free; set FALIGN_CACHE"):
        memory_map(tmp_path / "one", (50, 3, 64, 64))
    with pytest.raises(DataError, match="50 images of 1 x 8 x 8 need"):
        store(tmp_path / "one", "set", np.zeros((50, 1, 8, 8), np.uint8), np.zeros(50, np.int64), ["a"])


#: Loads the folder argv[1] after changing the library by argv[2], to stop it where the test wants.
LOADING = """
import sys, time
from pathlib import Path
from feature_alignment import data
from feature_alignment.data import decoding
exec(sys.argv[2])
print(data.load(sys.argv[1], "train").pixels.sum().item())
"""


SLOW_AFTER_THREE_IMAGES = """
decode = decoding.decode_image
def slowly(name, *rest):
    if name.endswith("3.png"):
        time.sleep(600)
    return decode(name, *rest)
decoding.decode_image = slowly
"""


SLOW_BEFORE_THE_MOVE = """
Path.rename = lambda *_: time.sleep(600)
"""


BOTH_AT_ONCE = """
move = Path.rename
def together(self, place):
    while not place.exists() and len(list(place.parent.glob(f".{place.name}-*/meta.json"))) < 2:
        time.sleep(0.01)
    return move(self, place)
Path.rename = together
"""


def write_ten(folder):
    for number in range(10):
        write_image(folder / f"{number}.png", (10 + number, 0, 0))
    return sum(10 + number for number in range(9)) * 64 * 64  # the tenth is held out


@pytest.fixture
def loading():
    """Start a process that loads a folder; none outlives the test."""
    workers = []

    def start(folder, change):
        command = [sys.executable, "-c", LOADING, str(folder), change]
        workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize(
    ("change", "awaited"),
    [(SLOW_AFTER_THREE_IMAGES, "images.npy"), (SLOW_BEFORE_THE_MOVE, "meta.json")],
    ids=["decoding", "about to move it into place"],
)
def test_a_process_killed_while_it_builds_leaves_nothing_that_is_taken_for_a_set(
    tmp_path, monkeypatch, loading, change, awaited
):
    cache = tmp_path / "cache"
    monkeypatch.setenv("FALIGN_CACHE", str(cache))
    total = write_ten(tmp_path / "set")
    worker = loading(tmp_path / "set", change)
    until = time.monotonic() + 600
    while not list(cache.glob(f".folder-set*/{awaited}")):
        assert worker.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    worker.kill()
    worker.communicate()
    assert worker.returncode == -9
    assert len(list(cache.glob(".folder-set*"))) == 1  # what it had begun, under a name that nothing looks for
    assert not list(cache.glob("folder-set*"))
    assert load(str(tmp_path / "set"), "train").pixels.sum().item() == total
    assert len(list(cache.glob("folder-set*"))) == 1


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """A folder of two classes whose training images are in the cache, and where they are."""
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        write_ten(tmp_path / "set" / name)
    load(str(tmp_path / "set"), "train")
    (place,) = (tmp_path / "cache").iterdir()
    return tmp_path / "set", place


@pytest.mark.parametrize("kept", [0, 20, -10, None])
@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "meta.json"])
def test_a_damaged_set_is_built_anew(decoded, name, kept):
    folder, place = decoded
    expected = load(str(folder), "train")
    pixels, labels = expected.pixels.clone(), expected.labels.clone()
    content = (place / name).read_bytes()
    (place / name).unlink()
    if kept is not None:
        (place / name).write_bytes(content[:kept])
    with pytest.warns(UserWarning, match=rf"{place.name}: damaged \(\w+: .+\), built anew$") as caught:
        found = load(str(folder), "train")
    assert len(caught) == 1
    assert found.pixels.equal(pixels)
    assert found.labels.equal(labels)
    assert (place / name).read_bytes() == content
    assert [*place.parent.iterdir()] == [place]


def test_a_set_that_cannot_be_read_this_time_is_kept(decoded, monkeypatch):
    folder, place = decoded

    def failing(*_, **__):
        raise OSError(5, "Input/output error", str(place))

    monkeypatch.setattr(np, "load", failing)
    with pytest.raises(OSError, match="Input/output error"):
        load(str(folder), "train")
    monkeypatch.undo()
    assert sorted(each.name for each in place.iterdir()) == ["images.npy", "labels.npy", "meta.json"]


def test_every_file_is_on_the_disk_before_it_has_its_name(decoded, monkeypatch):
    folder, place = decoded
    written = set()
    monkeypatch.setattr(os, "fsync", lambda file: written.add(os.fstat(file).st_ino))
    load(str(folder), "test")
    (other,) = set(place.parent.iterdir()) - {place}
    assert {each.stat().st_ino for each in other.iterdir()} == written


def test_two_processes_that_build_at_once_both_succeed(tmp_path, monkeypatch, loading):
    cache = tmp_path / "cache"
    monkeypatch.setenv("FALIGN_CACHE", str(cache))
    total = write_ten(tmp_path / "set")
    workers = [loading(tmp_path / "set", BOTH_AT_ONCE) for _ in range(2)]
    results = [worker.communicate(timeout=600)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert results == [str(total)] * 2
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []
    assert len(list(cache.iterdir())) == 1
