"""Two processes (gloo) train as one with the doubled batch, to the rounding of float64; what they cannot is refused."""

from __future__ import annotations

import csv
import sys

import pytest
import torch
from torch import nn

from feature_alignment.models import FA, GAN, VFAGAN
from feature_alignment.training import Run, TrainingError, TrainingOptions, fit, processes
from feature_alignment.training.checkpoint import load_checkpoint
from feature_alignment.training.processes import refuse_unsynchronised, synchronised

sys.path.insert(0, __file__.rpartition("/")[0])
import two_processes as two

#: These two in every run of the tests: noise, beta, labels, and gradients without automatic differentiation.
FAST = ["vfa", "local"]
SMALL = {"latent": 3, "channels": (4,), "width": 8}


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    two.start(out, *FAST)
    return out


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    two.start(out, *(name for name in two.CASES if name not in FAST))
    return out


def numbers(out, name):
    with (out / name / "log.csv").open() as file:
        header, *lines = csv.reader(file)
    return header, torch.tensor([list(map(float, line)) for line in lines], dtype=torch.float64)


def compare(name, together, alone):
    """Compare weights, which have moved by about 5e-4, and every line of the log."""
    two.train(name, alone)
    left, right = two.weights(alone, name), two.weights(together, name)
    for key, value in left.items():
        # Adam divides by the root of the second moment: rounding grows where a gradient vanishes, as of some biases.
        assert torch.allclose(value, right[key], rtol=0, atol=1e-9), (key, (value - right[key]).abs().max())
    (header, lines), (other, others) = numbers(alone, name), numbers(together, name)
    assert header == other
    assert torch.allclose(lines, others, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", FAST)
def test_two_processes_train_as_one_with_the_doubled_batch(name, fast, tmp_path):
    compare(name, fast, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in two.CASES if name not in FAST])
def test_two_processes_train_every_model_as_one(name, all_of_them, tmp_path):
    compare(name, all_of_them, tmp_path)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_one_process_goes_on(tmp_path):
    """At the next update at which they agree, with a checkpoint; continued alone it is the training never stopped."""
    outputs = two.start(tmp_path / "parts", "vfa", STEPS="8", SIGNAL="1")
    assert ["stopped at step 4" in output for output in outputs] == [True, True]
    run = Run(tmp_path / "parts" / "vfa")
    assert load_checkpoint(run.checkpoint)["updates"] == 4
    two.train("vfa", tmp_path / "parts", steps=8, resume=True)
    two.train("vfa", tmp_path / "whole", steps=8)
    left, right = two.weights(tmp_path / "parts", "vfa"), two.weights(tmp_path / "whole", "vfa")
    assert all(torch.allclose(value, right[key], rtol=0, atol=1e-9) for key, value in left.items())


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "layer"),
    [(GAN, {}, "generator.1"), (VFAGAN, {}, "refiner.layers.1"), (GAN, {"average_weights": 0.9}, "generator.live.1")],
)
def test_batch_normalisation_of_several_cpu_processes_is_refused_by_name(kind, options, layer):
    model = kind((1, 8, 8), **SMALL, **options)
    refuse_unsynchronised(model, torch.device("cpu"), 1)
    refuse_unsynchronised(model, torch.device("cuda"), 2)
    with pytest.raises(TrainingError, match=rf"devices: batch normalisation \({layer}.*2 processes train on the cpu"):
        refuse_unsynchronised(model, torch.device("cpu"), 2)


@pytest.mark.parametrize(("kind", "options"), [(GAN, {"normalize": False}), (VFAGAN, {"refiner": "residual"})])
def test_without_it_they_are_not(kind, options):
    refuse_unsynchronised(kind((1, 8, 8), **SMALL, **options), torch.device("cpu"), 2)


def test_batch_normalisation_is_synchronised_during_training_only():
    """The synchronised layers share parameters and statistics with the old ones, which take their place again."""
    model = GAN((1, 8, 8), **SMALL)
    before, parameters = dict(model.named_modules()), dict(model.named_parameters())
    with synchronised(model, 2):
        layers = [each for each in model.generator.modules() if isinstance(each, nn.SyncBatchNorm)]
        assert len(layers) == 3
        assert not any(type(each) in (nn.BatchNorm1d, nn.BatchNorm2d) for each in model.modules())
        assert all(value is parameters[key] for key, value in model.named_parameters())
        layers[0].running_mean.fill_(3.0)
    assert dict(model.named_modules()) == before
    assert next(each for each in model.modules() if isinstance(each, nn.BatchNorm1d)).running_mean.eq(3).all()


def test_sharded_weights_are_refused_with_the_reason(tiny, small, ten, tmp_path):
    with pytest.raises(
        TrainingError, match=r"strategy: fsdp shards .* differentiates the encoder a second time; take ddp"
    ):
        fit(small(FA), tiny, Run(tmp_path), ten(strategy="fsdp"))
    assert not list(tmp_path.iterdir())


# --- who has started them -------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """Let torchrun or SLURM have started this process."""

    def start(by, **environment):
        monkeypatch.setattr(processes.TorchElasticEnvironment, "detect", lambda: by == "torchrun")
        monkeypatch.setattr(processes.SLURMEnvironment, "detect", lambda: by == "SLURM")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return start


def test_torchrun_says_how_many_processes_there_are(started):
    started("torchrun", WORLD_SIZE="8", LOCAL_WORLD_SIZE="4", RANK="4", LOCAL_RANK="0")
    assert processes._started(TrainingOptions()) == (4, 2)
    assert not processes.is_first_process()
    with pytest.raises(TrainingError, match="devices: torchrun started 4 processes on every machine, got 2"):
        processes._started(TrainingOptions(devices=2))


def test_slurm_says_how_many_processes_there_are(started):
    started("SLURM", SLURM_NTASKS="8", SLURM_NNODES="2", SLURM_PROCID="0")
    assert processes._started(TrainingOptions(devices="4")) == (4, 2)
    assert processes.is_first_process()
    started("SLURM", SLURM_NTASKS="7", SLURM_PROCID="4")
    assert not processes.is_first_process()
    with pytest.raises(TrainingError, match="devices: SLURM started 7 processes on 2 machines"):
        processes._started(TrainingOptions())


def test_otherwise_the_option_does(started):
    started("nobody", LOCAL_RANK="0", NODE_RANK="1")
    assert processes._started(TrainingOptions(devices=3)) is None
    assert not processes.is_first_process()
