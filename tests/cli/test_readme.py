"""README's Python."""

from __future__ import annotations

from pathlib import Path

from feature_alignment.data import load


def test_the_readmes_python_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    alone, inverting, training, with_run = (part.split("```")[0] for part in readme.split("```python\n")[1:])
    spaces = {}
    exec(alone.replace("torch.rand(100, 128", "torch.rand(3, 128"), spaces)
    assert spaces["feature"].shape == (128, 1, 28, 28)
    exec(inverting, spaces)
    assert spaces["found"].converged.all()
    exec(training.replace("torch.rand(100, 32", "torch.rand(3, 32"), spaces)
    assert spaces["updates"].done == 3
    assert spaces["losses"].keys() == {"reconstruction", "kl"}
    test = load("mnist-mini", "test")
    spaces = {"images": test.images(10), "labels": test.labels[:10]}
    exec(with_run.replace("runs/quickstart", str(run)), spaces)
    assert spaces["samples"].shape == (10, 1, 28, 28)
    assert (tmp_path / "somewhere" / "model.safetensors").is_file()
