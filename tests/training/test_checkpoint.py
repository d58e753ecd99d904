"""Checkpoints: two are kept, each is verified when it is read, and writing one never loses the one before."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from feature_alignment.models import FA, Updates
from feature_alignment.training import Run, TrainingError, checkpoint, fit, loop
from feature_alignment.training.checkpoint import load_checkpoint


@pytest.fixture
def killed(tiny, small, ten, tmp_path, monkeypatch):
    """A run that was killed after its checkpoints of 4 and 8 updates, and one that was not."""
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    fit(small(), tiny, whole, ten())
    step = loop.FabricUpdates.step

    def until(updates, *batch):
        if updates.done == 9:
            raise RuntimeError("killed")
        return step(updates, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop.FabricUpdates, "step", until)
        with pytest.raises(RuntimeError, match="killed"):
            fit(small(), tiny, parts, ten())
    return whole, parts


def records(content):
    """Return where the content of each record of an archive begins, from the local headers."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        starts = [each.header_offset for each in archive.infolist() if each.file_size]
    return [start + 30 + sum(struct.unpack("<HH", content[start + 26 : start + 30])) for start in starts]


def test_the_newest_and_the_previous_one_are_kept(killed):
    _, parts = killed
    assert [path.name for path in parts.checkpoints] == ["last.ckpt", "previous.ckpt"]
    assert [load_checkpoint(path)["updates"] for path in parts.checkpoints] == [8, 4]
    assert sorted(path.name for path in parts.checkpoint.parent.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_a_damaged_newest_one_is_named_and_the_previous_one_is_used(killed, tiny, small, ten, same):
    whole, parts = killed
    content = bytearray(parts.checkpoint.read_bytes())
    content[records(bytes(content))[-3]] ^= 1
    parts.checkpoint.write_bytes(content)
    with pytest.warns(UserWarning, match=r"last.ckpt: not a readable .*; going on from previous.ckpt, 4 updates"):
        fit(small(), tiny, parts, ten(), resume=True)
    assert same(whole, parts)


def test_a_run_with_the_previous_one_only_goes_on(killed, tiny, small, ten, same):
    whole, parts = killed
    parts.checkpoint.unlink()
    fit(small(), tiny, parts, ten(), resume=True)
    assert same(whole, parts)


def test_every_changed_byte_is_noticed(killed, tmp_path):
    content = killed[1].checkpoint.read_bytes()
    assert torch.load(killed[1].checkpoint, weights_only=True)["updates"] == 8  # a plain file of PyTorch's all the same
    copy = tmp_path / "copy.ckpt"
    for place in [
        *records(content),
        content.index(b"asked"),
        len(content) - 36,
        *range(0, len(content), len(content) // 100),
    ]:
        copy.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        with pytest.raises(TrainingError, match=r"copy\.ckpt: not a readable checkpoint"):
            load_checkpoint(copy)


def test_every_cut_is_noticed(killed, tmp_path):
    content, copy = killed[1].checkpoint.read_bytes(), tmp_path / "copy.ckpt"
    for length in range(0, len(content), len(content) // 40):
        copy.write_bytes(content[:length])
        with pytest.raises(TrainingError, match=r"copy\.ckpt: not a readable checkpoint"):
            load_checkpoint(copy)


def sealed(content):
    """The checksum at the end, as for a checkpoint of ours."""
    content = content[:-2] + (39).to_bytes(2, "little")
    return content + b"sha256:" + hashlib.sha256(content).digest()


def leave_only(run, state):
    """Write a checkpoint with the right checksum, and remove the one before."""
    content = io.BytesIO()
    torch.save(state, content)
    run.checkpoint.write_bytes(sealed(content.getvalue()))
    run.checkpoint.with_name("previous.ckpt").unlink()


@pytest.mark.parametrize(
    "change",
    [
        {"updates": "8"}, {"seconds": None}, {"model": []}, {"model": {"x": 3}}, {"optimizers": {"encoder": 3}},
        {"asked": {"a": 1}}, {"asked": {}}, {"optimizers": {}}, {"precision": 1},
        {"asked": {"training": {}, "data": {}, "model": torch.zeros(2)}}, {"updates": -1}, {"seconds": float("nan")},
        {"asked": {"kind": "FA", "training": {}, "data": {}, "model": {}}},
        {"asked": {"images": "", "training": {}, "data": {}, "model": {}}},
    ],
)  # fmt: skip
def test_values_that_do_not_belong_into_a_checkpoint_are_refused(change, killed, tiny, small, ten, tmp_path):
    _, parts = killed
    leave_only(parts, load_checkpoint(parts.checkpoint) | change)
    with pytest.raises(TrainingError, match=r"last\.ckpt: (not a readable|a checkpoint of another|has the optimisers)"):
        fit(small(), tiny, parts, ten(), resume=True)


@pytest.mark.parametrize("moment", [torch.zeros(5), torch.zeros(()), 3, None])
def test_moments_of_another_shape_are_refused(moment, killed, tiny, small, ten):
    _, parts = killed
    state = load_checkpoint(parts.checkpoint)
    name, moments = next(iter(state["optimizers"]["encoder"].items()))
    moments["exp_avg"] = moment
    leave_only(parts, state)
    with pytest.raises(TrainingError, match=rf"not a readable checkpoint \(the optimiser's exp_avg of {name}\)"):
        fit(small(), tiny, parts, ten(), resume=True)


@pytest.mark.parametrize("moment", ["step", "exp_avg", "exp_avg_sq"])
def test_moments_that_are_missing_are_refused(moment, killed, tiny, small, ten):
    _, parts = killed
    state = load_checkpoint(parts.checkpoint)
    name, moments = next(iter(state["optimizers"]["encoder"].items()))
    del moments[moment]
    leave_only(parts, state)
    with pytest.raises(TrainingError, match=rf"not a readable checkpoint \(the optimiser's {moment} of {name}\)"):
        fit(small(), tiny, parts, ten(), resume=True)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("as_archive", [True, False])
def test_nothing_is_executed_from_a_checkpoint(as_archive, killed, tmp_path):
    _, parts = killed
    content, mark = io.BytesIO(), tmp_path / "executed"
    torch.save({"model": Malicious(mark)}, content, _use_new_zipfile_serialization=as_archive)
    parts.checkpoint.write_bytes(sealed(content.getvalue()) if as_archive else content.getvalue())
    with pytest.raises(TrainingError, match=r"last\.ckpt: not a readable checkpoint"):
        load_checkpoint(parts.checkpoint)
    assert not mark.exists()


@pytest.mark.parametrize("refused", ["fsync", "write_bytes"])
def test_a_full_disk_leaves_the_old_checkpoint(refused, killed, tiny, small, ten, same, monkeypatch):
    whole, parts = killed
    before = parts.checkpoint.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if refused == "fsync" else (checkpoint.Path, "write_bytes")), full)
        with pytest.raises(OSError, match=r"No space left on device: '.*(last\.ckpt|log\.csv)'"):
            fit(small(), tiny, parts, ten(), resume=True)
    assert parts.checkpoint.read_bytes() == before
    assert not list(parts.directory.rglob("*.part"))
    fit(small(), tiny, parts, ten(), resume=True)
    assert same(whole, parts)


def test_checkpoints_by_the_clock_change_nothing(killed, tiny, small, ten, same, tmp_path, monkeypatch):
    whole, _ = killed
    often, saved, save = Run(tmp_path / "often"), [], loop.save_checkpoint

    def watched(fabric, path, updates, *rest, **kept):
        saved.append(updates.done)
        save(fabric, path, updates, *rest, **kept)

    monkeypatch.setattr(loop, "save_checkpoint", watched)
    fit(small(), tiny, often, ten(checkpoint_seconds=0))
    assert saved == list(range(1, 11))
    assert same(whole, often)
    saved.clear()
    fit(small(), tiny, Run(tmp_path / "seldom"), ten(checkpoint_every=100, checkpoint_seconds=None))
    assert saved == [10]


def test_what_a_killed_process_left_is_removed(killed, tiny, small, ten):
    _, parts = killed
    left = parts.checkpoint.parent / ".last.ckpt-0123abcd.part"
    left.write_bytes(b"half")
    fit(small(), tiny, parts, ten(), resume=True)
    assert not left.exists()


def test_moments_belong_to_their_parameters_by_name():
    """Another parameter is frozen meanwhile: the indices move, the moments must not."""
    torch.manual_seed(0)
    model = FA((1, 8, 8), latent=3, channels=(4,), width=8, learn_step_size=True)
    updates = Updates(model, total=4)
    updates.step(torch.rand(8, 1, 8, 8))
    optimizers = {"encoder": checkpoint._by_name(updates, "encoder")}
    frozen = FA((1, 8, 8), latent=3, channels=(4,), width=8)
    resumed = Updates(frozen, total=4)
    checkpoint.restore_optimizers(None, {"optimizers": optimizers}, resumed)
    names = {id(each): name for name, each in frozen.named_parameters()}
    for parameter in resumed.parameters["encoder"]:
        moments = resumed.optimizers["encoder"].state[parameter]
        assert torch.equal(moments["exp_avg"], optimizers["encoder"][names[id(parameter)]]["exp_avg"])
    assert "log_step_sizes" in optimizers["encoder"]


def test_nothing_to_resume_starts_from_the_beginning_and_says_so(killed, tiny, small, ten, same, tmp_path):
    run = Run(tmp_path / "new")
    with pytest.warns(UserWarning, match="no checkpoint in it yet, starting from the beginning"):
        fit(small(), tiny, run, ten(), resume=True)
    assert same(killed[0], run)


def test_a_time_limit_and_a_resumption_are_the_uninterrupted_run(killed, tiny, small, ten, same, tmp_path, monkeypatch):
    run, clock = Run(tmp_path / "limited"), iter(range(10**6))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
        done = fit(small(), tiny, run, ten(max_seconds=5, checkpoint_every=100))
    assert 0 < done["steps"] < 10
    assert load_checkpoint(run.checkpoint)["updates"] == done["steps"]
    fit(small(), tiny, run, ten(), resume=True)
    assert same(killed[0], run)


def test_a_damaged_one_does_not_take_the_place_of_the_previous_one(killed, tiny, small, ten, same, monkeypatch):
    whole, parts = killed
    parts.checkpoint.write_bytes(b"damaged")
    replace, seen = Path.replace, []

    def stopped(scratch, place):
        if place == parts.checkpoint and not seen:
            seen.append([path.name for path in parts.checkpoints if path.read_bytes() != b"damaged"])
            raise RuntimeError("no power")
        return replace(scratch, place)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopped)
        with pytest.warns(UserWarning, match="going on from previous"), pytest.raises(RuntimeError, match="no power"):
            fit(small(), tiny, parts, ten(), resume=True)
    assert seen == [["previous.ckpt"]]
    with pytest.warns(UserWarning, match="going on from previous"):
        fit(small(), tiny, parts, ten(), resume=True)
    assert same(whole, parts)


def test_the_new_one_is_on_the_disk_before_the_previous_one_goes(killed, tiny, small, ten, monkeypatch):
    _, parts = killed
    written, safe, fsync, link = set(), [], os.fsync, os.link

    def keep(newest, previous):
        (scratch,) = parts.checkpoint.parent.glob(".last.ckpt-*.part")
        safe.append(scratch.stat().st_ino in written)
        link(newest, previous)

    monkeypatch.setattr(os, "fsync", lambda number: (written.add(os.fstat(number).st_ino), fsync(number)))
    monkeypatch.setattr(os, "link", keep)
    fit(small(), tiny, parts, ten(), resume=True)
    assert safe
    assert all(safe)
