"""Files of parts: what they compute, what they refuse, and when there is none."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import nn

from feature_alignment.export import FORMATS, ExportError, export, parts_of
from feature_alignment.models import AE, FA, GAN, GON, VAE, VFA, VFAGAN, Local

SMALL = {"image_shape": (1, 8, 8), "latent": 5, "channels": (4,), "width": 12}
STEPS = {"steps": 2, "squash": "every", "step_size": 4.0, "activation": "silu"}
LAYERED = {"start": "layers", "learn_step_size": True, "max_step": 1e-3}
ADVERSARY = {"refiner_filters": 4, "discriminator_width": 8}

FAMILIES = {
    "ae": (AE, {"classes": 3}),
    "vae": (VAE, {}),
    "vae, given the class": (VAE, {"classes": 3}),
    "gan": (GAN, {"adversarial": "relativistic", "projection": True, "classes": 3, "average_weights": 0.9}),
    "gon": (GON, {"steps": 2, "step_size": 1.0, "classes": 3}),
    "local": (Local, {"steps": 2, "step_size": 0.5}),
    "fa, shared start, one step": (FA, {}),
    "fa, shared start, two steps": (FA, {**STEPS, "start": "learned"}),
    "fa, layered start, one step": (FA, {**STEPS, **LAYERED, "steps": 1}),
    "fa, layered start, two steps": (FA, {**STEPS, **LAYERED}),
    "fa, automatic step": (FA, {"step_size": "auto", "steps": 2, "squash": "every", "activation": "tanh"}),
    "vfa": (VFA, {**STEPS, "classes": 3, "start_branch": "mean+deviation"}),
    "vfa, class priors": (VFA, {**STEPS, "classes": 3, "start_branch": "mean", "class_prior": True}),
    "ae, in colour": (AE, {"image_shape": (3, 8, 8)}),
    "ae, in colour, a latent of three, three classes": (AE, {"image_shape": (3, 8, 8), "latent": 3, "classes": 3}),
    "vfa-gan": (VFAGAN, {**ADVERSARY, **STEPS, **LAYERED, "classes": 3, "refiner": "residual"}),
}


def model_of(name):
    torch.manual_seed(0)
    kind, options = FAMILIES[name]
    return kind(**SMALL | options)


def same_as_the_model(name, form, folder):
    """Export; compare every file with the model on new inputs of another batch than the checked ones."""
    model = model_of(name)
    found = {each.part: each for each in export(model, folder, format=form)}
    parts, _ = parts_of(model)
    assert {path.name for path in folder.iterdir()} == {f"{part.name}.{form}" for part in parts}
    for part in parts:
        assert found[part.name].difference < 1e-5
        run = FORMATS[form].read((folder / f"{part.name}.{form}").read_bytes())
        for count in (1, 4):
            inputs = part.example(count)
            method = {"encoder": model.encode, "decoder": model.decode, "refiner": model.refine}[part.name]
            torch.testing.assert_close(run(*inputs).detach(), method(*inputs), rtol=1e-5, atol=1e-5)


def test_a_conditional_decoder_of_two_steps(tmp_path):
    same_as_the_model("vfa", "pt2", tmp_path)
    decode = torch.export.load(tmp_path / "decoder.pt2").module()
    for label in (3, -1):
        with pytest.raises((IndexError, RuntimeError)):
            decode(torch.zeros(1, 5), torch.tensor([label]))
    assert not torch.equal(decode(torch.zeros(1, 5), torch.tensor([0])), decode(torch.zeros(1, 5), torch.tensor([1])))


@pytest.mark.parametrize("name", ["ae, in colour", "ae, in colour, a latent of three, three classes"])
def test_no_size_of_a_model_is_taken_for_the_batch(name, tmp_path):
    same_as_the_model(name, "pt2", tmp_path)


def test_a_network_of_one_batch_alone_is_refused_in_one_line(tmp_path, monkeypatch):
    model = AE(**SMALL)
    monkeypatch.setattr(model, "encode", lambda images, labels=None: images.flatten(1)[: int(images.shape[0])])
    with pytest.raises(ExportError, match=r"^encoder: cannot be exported for batches of any size: [^\n]+$"):
        list(export(model, tmp_path, format="pt2"))
    assert not list(tmp_path.iterdir())


class Branching(nn.Module):
    """An encoder that does one or the other by a value."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 16)

    def forward(self, images):
        hidden = self.layer(images.flatten(1))
        return hidden if hidden.sum() > 0 else 2 * hidden


@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_a_network_that_branches_by_a_value_is_refused_in_one_line(form, tmp_path):
    model = FA((1, 8, 8), latent=4, width=16, encoder=Branching())
    with pytest.raises(ExportError, match=r"^encoder: cannot be exported for batches of any size: [^\n]+$"):
        list(export(model, tmp_path, format=form))


def test_onnx_files_run_in_onnxruntime(tmp_path):
    import onnxruntime

    same_as_the_model("ae", "onnx", tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "decoder.onnx")
    assert [each.name for each in session.get_inputs()] == ["latent", "labels"]
    assert [each.name for each in session.get_outputs()] == ["images"]
    given = {"latent": torch.zeros(1, 5).numpy(), "labels": torch.tensor([3]).numpy()}
    with pytest.raises(Exception, match=r"(?i)index|indices|bounds"):
        session.run(None, given)


#: Everything to onnx, whose operations are fewer; to pt2 what is most unlike the others.
CASES = [*((name, "onnx") for name in FAMILIES), *((name, "pt2") for name in ("gon", "local", "vfa-gan"))]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), CASES)
def test_every_family_of_models_is_exported(name, form, tmp_path):
    same_as_the_model(name, form, tmp_path)


@pytest.mark.slow
def test_a_pt2_file_needs_nothing_of_this_package(tmp_path):
    list(export(model_of("vae"), tmp_path, format="pt2"))
    code = f"""
import sys, torch
images = torch.export.load({str(tmp_path / "decoder.pt2")!r}).module()(torch.zeros(6, 5))
assert images.shape == (6, 1, 8, 8) and "feature_alignment" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_network_is_left_out_with_its_reason(tmp_path):
    parts, missing = parts_of(model_of("gan"))
    assert [part.name for part in parts] == ["decoder"]
    assert "GAN finds an image's latent by a search" in missing["encoder"]
    parts, missing = parts_of(FA(**SMALL, start="normal"))
    assert [part.name for part in parts] == ["encoder"]
    assert "draws random numbers" in missing["decoder"]
    assert "refiner" not in missing


@pytest.mark.parametrize("wrong", [lambda y: y + 2e-4, lambda y: y * torch.nan, lambda y: y[:1]])
def test_a_file_that_computes_something_else_is_refused_and_not_written(wrong, tmp_path, monkeypatch):
    form = FORMATS["pt2"]
    spoiled = dataclasses.replace(form, read=lambda content: lambda *x: wrong(form.read(content)(*x)))
    monkeypatch.setitem(FORMATS, "pt2", spoiled)
    with pytest.raises(ExportError, match=r"^encoder: as pt2, its outputs for a batch of \d differ"):
        list(export(AE(**SMALL), tmp_path, format="pt2"))
    assert not list(tmp_path.iterdir())


def test_an_operation_that_onnx_does_not_have_is_named(monkeypatch):
    from feature_alignment.export import writing
    from feature_alignment.export.tracing import traced

    part = parts_of(AE(**SMALL))[0][0]
    program = traced(lambda x: torch.special.airy_ai(x), (torch.rand(3, 2),))
    with pytest.raises(ExportError, match=r"encoder: cannot be exported to onnx: ONNX has no aten.special_airy_ai"):
        writing.FORMATS["onnx"].write(part, program)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "format: expected one of pt2, onnx, got 'tflite'"),
        ({"tolerance": 0.0}, "tolerance: expected a number greater than 0, got 0.0"),
    ],
)
def test_bad_arguments_are_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        next(export(AE(**SMALL), tmp_path, **options))


@pytest.mark.parametrize("name", ["vfa", "vae, given the class"])
def test_labels_below_0_are_refused_by_an_onnx_file_too(name, tmp_path):
    """Its gather counts those from the end, so that "no label" would be the last class."""
    pytest.importorskip("onnxruntime")
    for each in export(model_of(name), tmp_path, format="onnx"):
        if each.part == "decoder" or name != "vfa":
            run = FORMATS["onnx"].read(each.path.read_bytes())
            images = {"decoder": torch.zeros(1, 5), "encoder": torch.zeros(1, 1, 8, 8)}[each.part]
            assert run(images, torch.tensor([2])).isfinite().all()
            for label in (3, -1, -3):
                with pytest.raises(Exception, match="indices element out of data bounds"):
                    run(images, torch.tensor([label]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_in_another_precision_is_exported_in_float32(dtype, tmp_path):
    model = model_of("ae").to(dtype)
    for each in export(model, tmp_path, format="pt2"):
        if each.part == "encoder":
            latent = torch.export.load(each.path).module()(torch.rand(2, 1, 8, 8))
            assert latent.dtype == torch.float32
    assert model.dtype == dtype
