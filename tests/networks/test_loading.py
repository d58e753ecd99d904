"""Networks by name: what is loaded is the network that was asked for, with pixels in [0, 1] as its input."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from feature_alignment import align, invert, select
from feature_alignment.models import FA, GAN, VFA
from feature_alignment.networks import LoadedNetwork, NetworkError, image_files, load_images, load_network
from feature_alignment.networks.parts import variables_of

MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.double).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.double).view(3, 1, 1)
OWN = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width=4, bias=True, fail=False):
        if fail:
            raise RuntimeError("on purpose")
        super().__init__(nn.Conv2d(1, width, 3, bias=bias), nn.ReLU(), nn.Flatten(), nn.Linear(26 * 26 * width, 10))

def double():
    return lambda x: 2 * x

network, number = Net(2), 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a module of the user's, and caches without any weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "own_nets.py").write_text(OWN)
    yield tmp_path
    sys.modules.pop("own_nets", None)


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def standardised(x):
    return ((x - MEAN) / STD).to(x.dtype)


def test_torchvision_with_its_normalisation_inside(here):
    torch.manual_seed(0)
    loaded = load_network("torchvision:resnet18", random=True, size=64)
    torch.manual_seed(0)
    plain = __import__("torchvision").models.resnet18().eval()
    assert (loaded.image_shape, len(loaded.class_names), loaded.class_names[1]) == ((3, 64, 64), 1000, "goldfish")
    assert loaded.layers == tuple(name for name, _ in plain.named_modules() if name)
    x = images(2, 3, 64, 64)
    torch.testing.assert_close(loaded.module(x), plain(standardised(x)))
    selected = select(loaded.module, "layer2.0.conv1")(x)
    torch.testing.assert_close(selected, select(plain, "layer2.0.conv1")(standardised(x)))
    assert load_network("torchvision:squeezenet1_1", random=True).image_shape == (3, 224, 224)
    assert not any(each.requires_grad for each in loaded.module.parameters())


@pytest.mark.slow
def test_a_vision_transformer_of_torchvision_at_another_size(here):
    vit = load_network("torchvision:vit_b_32", random=True, size=64, init={"num_classes": "7"})
    assert (vit.image_shape, vit.class_names) == ((3, 64, 64), None)
    assert vit.module(images(2, 3, 64, 64)).shape == (2, 7)


def test_weights_of_a_file_and_of_the_cache(here):
    torchvision = __import__("torchvision")
    network = torchvision.models.squeezenet1_1().eval()
    x = images(1, 3, 64, 64)
    save_file(network.state_dict(), here / "w.safetensors")
    torch.save({"state_dict": network.state_dict()}, here / "w.pt")
    cached = here / "torch" / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    cached.parent.mkdir(parents=True)
    torch.save(network.state_dict(), cached)
    for weights in (here / "w.safetensors", here / "w.pt", None):
        found = load_network("torchvision:squeezenet1_1", weights=weights, size=64)
        torch.testing.assert_close(found.module(x), network(standardised(x)))


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"epoch": 3, "best": np.float64(0.9), "model_state_dict": state},
        # torchvision's own training script
        lambda state: {"model": state, "args": argparse.Namespace(lr=0.1, out=Path("a")), "optimizer": {"state": {}}},
        lambda state: {"state_dict": {f"module.{name}": each for name, each in state.items()}, "optimizer": {}},
        lambda state: {f"module._orig_mod.{name}": each for name, each in state.items()},
        # Lightning: the network is an attribute of the module that was trained, beside others.
        lambda state: {
            "state_dict": {"loss.weight": torch.ones(2)} | {f"model.{n}": each for n, each in state.items()}
        },
        lambda state: {f"encoder.backbone.{n}": each for n, each in state.items()} | {"head.weight": torch.ones(3)},
    ],
    ids=[
        "in a checkpoint",
        "with its arguments",
        "of several processes",
        "compiled",
        "of Lightning",
        "part of a larger one",
    ],
)
def test_weights_as_training_loops_save_them(wrapped, here):
    torch.manual_seed(1)
    network = __import__("torchvision").models.squeezenet1_1(num_classes=5).eval()
    torch.save(wrapped(network.state_dict()), here / "mine.pth")
    found = load_network(
        "torchvision:squeezenet1_1", weights=here / "mine.pth", init={"num_classes": "5"}, size=64,
    )  # fmt: skip
    x = images(1, 3, 64, 64)
    torch.testing.assert_close(found.module(x), network(standardised(x)))


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
def test_all_weights_of_a_network_of_timm_are_loaded_whatever_its_classes(prefix, here):
    """With another number of classes than the pretrained one's, timm would leave some out without a word."""
    timm = __import__("timm")
    torch.manual_seed(1)
    network = timm.create_model("test_vit", num_classes=10).eval()
    torch.save({"state_dict": {prefix + n: each for n, each in network.state_dict().items()}}, here / "mine.pth")
    found = load_network("timm:test_vit", weights=here / "mine.pth", init={"num_classes": "10"})
    for name, each in found.module.state_dict().items():
        assert torch.equal(each, network.state_dict()[name]), name
    part = {n: each for n, each in network.state_dict().items() if n.startswith("blocks.")}
    torch.save(part, here / "part.pth")
    with pytest.raises(NetworkError, match=r"part\.pth do not fit"):
        load_network("timm:test_vit", weights=here / "part.pth", init={"num_classes": "10"})


def test_weights_under_the_name_of_a_wrapper_and_of_before_the_count_of_batches(here):
    (here / "named_nets.py").write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))\n\n"
        "    def forward(self, x):\n        return self.module(x)\n"
    )
    net = load_network("named_nets:Net", size=8).module
    state = {name: torch.full_like(each, 0.5) for name, each in net.state_dict().items() if "num_batches" not in name}
    for prefix in ("", "module.", "ema."):
        torch.save({prefix + name: each for name, each in state.items()}, here / "w.pt")
        found = load_network("named_nets:Net", size=8, weights=here / "w.pt").module
        assert all(torch.equal(found.state_dict()[name], each) for name, each in state.items())
    sys.modules.pop("named_nets")


def test_weights_of_a_network_that_has_versions(here):
    network = __import__("torchvision").models.mnasnet0_5()
    save_file(network.state_dict(), here / "m.safetensors")
    found = load_network("torchvision:mnasnet0_5", weights=here / "m.safetensors", size=32)
    assert torch.equal(found.module.classifier[1].weight, network.classifier[1].weight)


def test_a_network_that_a_function_returns_twice_gets_hooks_of_its_own(here):
    (here / "same_nets.py").write_text(
        "from torch import nn\n\none = nn.Conv2d(1, 2, 3)\n\ndef get():\n    return one\n"
    )
    first, second = (load_network("same_nets:get", size=8, mean=[0.5], std=[0.5]).module for _ in range(2))
    x = images(1, 1, 8, 8)
    torch.testing.assert_close(first(x), second(x))
    assert len(first._forward_pre_hooks) == len(second._forward_pre_hooks) == 1
    sys.modules.pop("same_nets")


def test_weights_of_two_networks_are_not_one(here):
    net = load_network("own_nets:network").module
    both = {f"{kind}.{name}": each for kind in ("student", "teacher") for name, each in net.state_dict().items()}
    torch.save(both, here / "mine.pth")
    with pytest.raises(NetworkError, match=r"mine.pth: holds several such networks, under student., teacher.; save"):
        load_network("own_nets:network", weights=here / "mine.pth")


def test_other_classes_and_a_saved_network_are_told_what_to_do(here):
    network = __import__("torchvision").models.squeezenet1_1(num_classes=5)
    torch.save(network.state_dict(), here / "mine.pth")
    torch.save(network, here / "whole.pth")
    with pytest.raises(NetworkError, match=r"2 of another shape .*--init, the 5 classes .* often by num_classes"):
        load_network("torchvision:squeezenet1_1", weights=here / "mine.pth")
    with pytest.raises(
        NetworkError, match=r"whole.pth: holds a torchvision.*SqueezeNet, and code in a file is not run"
    ):
        load_network("torchvision:squeezenet1_1", weights=here / "whole.pth")


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "timm:test_vit", "own_nets:network", "own_nets:double"])
def test_a_normalisation_asked_for_replaces_that_of_the_library(name, here):
    options = {"random": True} if name[0] == "t" else {"size": 28}
    given = {"mean": [0.2], "std": [0.4]}
    torch.manual_seed(0)
    found = load_network(name, **options, **given)
    torch.manual_seed(0)
    plain = load_network(name, **options, mean=[0.0], std=[1.0])
    x = images(1, *found.image_shape)
    torch.testing.assert_close(found.module(x), plain.module((x - 0.2) / 0.4))
    if name == "timm:test_vit":  # ... and without one it is the library's
        torch.manual_seed(0)
        assert not torch.allclose(load_network(name, **options).module(x), found.module(x))


class Code:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_code_in_a_file_of_weights_is_not_run(here):
    torch.save({"a": Code()}, here / "evil.pt")
    with pytest.raises(
        NetworkError, match=r"evil.pt: holds a .*, and code in a file is not run; save the network's state_dict"
    ):
        load_network("torchvision:squeezenet1_1", weights=here / "evil.pt")
    assert not (here / "executed").exists()


@pytest.mark.parametrize("name", ["test_vit", "test_resnet.r160_in1k"])
def test_timm(name, here):
    timm = pytest.importorskip("timm")
    plain = timm.create_model(name, num_classes=1000).eval()
    save_file(plain.state_dict(), here / "w.safetensors")
    loaded = load_network(f"timm:{name}", weights=here / "w.safetensors")
    config = plain.pretrained_cfg
    assert loaded.image_shape == config["input_size"]
    assert loaded.class_names[1].startswith("goldfish")
    x = images(2, *loaded.image_shape)
    mean, std = (torch.tensor(config[each]).view(3, 1, 1) for each in ("mean", "std"))
    torch.testing.assert_close(loaded.module(x), plain((x - mean) / std))
    assert load_network(f"timm:{name}", random=True, size=64).image_shape == (3, 64, 64)
    grey = load_network(f"timm:{name}", random=True, size=64, init={"in_chans": "1"})
    assert grey.image_shape == (1, 64, 64)


PROCESSORS = {
    "ViTImageProcessor": {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 0.75]},
    "EfficientNetImageProcessor": {"rescale_offset": True, "rescale_factor": 1 / 127.5},
    "MobileViTImageProcessor": {},  # which swaps red and blue
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_transformers_with_the_colours_of_its_processor_inside(kind, here):
    transformers = pytest.importorskip("transformers")
    side = {"height": 32, "width": 32}
    processor = getattr(transformers, kind)(size=side, crop_size=side, do_center_crop=False, **PROCESSORS[kind])
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], id2label={0: "cat", 1: "dog", 2: "owl"}
    )
    plain = transformers.ResNetForImageClassification(config).eval()
    processor.save_pretrained(here / "net")
    plain.save_pretrained(here / "net")
    loaded = load_network(f"transformers:{here / 'net'}")
    assert (loaded.image_shape, loaded.class_names) == ((3, 32, 32), ("cat", "dog", "owl"))
    assert "resnet.encoder.stages.0" in loaded.layers
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels = processor(Image.fromarray(image), return_tensors="pt", do_resize=False)["pixel_values"]
    x = torch.tensor(image).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(loaded.module(x), plain(pixels).logits, rtol=1e-4, atol=1e-5)
    save_file({"classifier.1.bias": torch.zeros(3)}, here / "few.safetensors")
    with pytest.raises(NetworkError, match=r"its weights do not fit ResNetForImageClassification: \d+ missing \("):
        load_network(f"transformers:{here / 'net'}", weights=here / "few.safetensors")


def test_transformers_by_the_type_of_a_model(here):
    init = {"image_size": "32", "patch_size": "8", "hidden_size": "16", "num_hidden_layers": "1"} | {
        "num_attention_heads": "2", "intermediate_size": "32"}  # fmt: skip
    vit = load_network("transformers:vit", random=True, init=init)
    assert (vit.image_shape, vit.module(images(2, 3, 32, 32)).shape) == ((3, 32, 32), (2, 2))
    with pytest.raises(NetworkError, match="transformers:bert: takes input_ids, expected a network that takes images"):
        load_network("transformers:bert", random=True, init={"num_hidden_layers": "1"})


def test_a_users_own_module_class_and_function(here):
    net = load_network("own_nets:Net", init={"width": "3", "bias": "false"})
    assert (net.image_shape, net.module[0].bias, net.module[0].out_channels) == ((1, 28, 28), None, 3)
    assert load_network("own_nets:network").module[0].out_channels == 2
    double = load_network("own_nets:double", size=8)
    assert (double.image_shape, double.layers) == ((3, 8, 8), ())
    torch.save(net.module.state_dict(), here / "w.pt")
    found = load_network("own_nets:Net", init={"width": "3", "bias": "false"}, weights=here / "w.pt")
    torch.testing.assert_close(found.module[3].weight, net.module[3].weight)
    with pytest.raises(NetworkError, match=r"1 unknown \(0.bias\)|1 missing \(0.bias\)"):
        load_network("own_nets:Net", init={"width": "3"}, weights=here / "w.pt")


@pytest.mark.parametrize("fixed", [True, False])
def test_an_exported_file_has_the_layers_it_was_exported_from(fixed, here):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Sequential(nn.SiLU(), nn.Conv2d(4, 5, 3)), nn.Flatten()).eval()
    dynamic = None if fixed else ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(plain, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=dynamic)
    torch.export.save(program, here / "net.pt2")
    loaded = load_network("net.pt2")
    assert loaded.image_shape == (3, 32, 32)
    assert "1.1" in loaded.layers
    x = images(3, 3, 32, 32)
    layer, twin = select(loaded.module, "1.1"), select(plain, "1.1")
    wanted = twin(x).detach()
    found = align(layer, wanted, torch.full_like(x, 0.5))
    torch.testing.assert_close(found, align(twin, wanted, torch.full_like(x, 0.5)))


def test_a_run_is_its_encoder(here):
    model = VFA((1, 16, 16), latent=3, channels=(4,), width=8, classes=4).eval()
    model.class_names = ("a", "b", "c", "d")
    model.save_pretrained(here / "run")
    loaded = load_network("run")
    x = images(2, 1, 16, 16)
    latent, scores = loaded.module(x)
    torch.testing.assert_close(latent, model.encode(x))
    torch.testing.assert_close(scores, model.posterior(x).scores)
    assert (loaded.class_names, loaded.image_shape, loaded.white) == (("a", "b", "c", "d"), (1, 16, 16), {})
    FA((1, 16, 16), latent=3, channels=(4,), width=8).save_pretrained(here / "fa")
    assert {"encoder.0", "encoder.2", "mean"} <= {*load_network("fa").layers}


def test_a_search_in_the_latents_of_a_run_draws_as_it_decodes(here):
    model = FA((1, 16, 16), latent=3, channels=(4,), width=8, steps=2, step_size=0.5, decode_steps=6).eval()
    model.save_pretrained(here / "run")
    latents, variables = torch.randn(2, 3), variables_of("run", load_network("run"))
    torch.testing.assert_close(variables.forward(latents), model.decode(latents))
    assert not torch.allclose(model.feature(latents), model.decode(latents))


def test_images_of_more_than_8_bits_are_read_by_the_white_of_a_run(here):
    model = FA((1, 16, 16), latent=3, channels=(4,), width=8)
    model.white = {"integers": 4095.0}
    model.save_pretrained(here / "run")
    Image.fromarray(np.full((16, 16), 200, np.uint16)).save(here / "dark.png")  # alone, 255 would be taken for white
    (pixels,) = load_images([here / "dark.png"], load_network("run"))
    assert pixels.unique().tolist() == pytest.approx([round(255 * 200 / 4095) / 255])


@torch.enable_grad()
def test_gradients_through_the_preprocessing_are_exact(here):
    """Of one step, whose derivative has both J and J^T, against the same network with the normalisation before it."""
    torch.manual_seed(0)
    loaded = load_network("torchvision:resnet18", random=True, size=32)
    inner = loaded.module.double()
    inner.layer3 = inner.layer4 = inner.avgpool = inner.fc = nn.Identity()
    torch.manual_seed(0)
    plain = __import__("torchvision").models.resnet18().double().eval()
    plain.layer3 = plain.layer4 = plain.avgpool = plain.fc = nn.Identity()

    class Before(nn.Module):
        def forward(self, x):
            return (x - MEAN) / STD

    twin, x = nn.Sequential(Before(), plain), images(2, 3, 32, 32).double()
    target, start = inner(x).detach(), torch.full_like(x, 0.5)
    gradients = []
    for network, weight in ((inner, inner.conv1.weight), (twin, plain.conv1.weight)):
        weight.requires_grad_()
        loss = (x - align(network, target, start, steps=1, step_size=0.01)).square().sum()
        gradients.append(torch.autograd.grad(loss, weight)[0])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
    assert gradients[0].norm() > 0
    numbers = [invert(each, target, start[:1], 1e-3, 40, method="gauss_newton").residual for each in (inner, twin)]
    torch.testing.assert_close(*numbers, rtol=1e-6, atol=1e-9)


def test_images_are_resized_and_cropped_and_broken_ones_named(tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 40:] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    loaded = LoadedNetwork("mine", nn.Identity(), (3, 20, 20))
    with pytest.warns(UserWarning, match=r"skipped .*b.png: not a readable image \(format not recognised\)"):
        found = load_images([tmp_path], loaded)
    assert found.shape == (1, 3, 20, 20)
    torch.testing.assert_close(found.mean((0, 1, 2)), (torch.arange(20) >= 10).float(), atol=0.1, rtol=0)
    oblong = load_images([tmp_path / "a.png"], LoadedNetwork("mine", nn.Identity(), (1, 20, 40)))
    assert oblong.shape == (1, 1, 20, 40)
    torch.testing.assert_close(oblong.mean((0, 1, 2)), (torch.arange(40) >= 20).float(), atol=0.1, rtol=0)


ERRORS = [
    ("resnet18", {}, "resnet18: no such network; expected the directory of a run, torchvision:NAME"),
    ("torchvison:resnet18", {}, "torchvison cannot be imported"),
    ("torchvision:resnet81", {}, "torchvision has no such model; nearest: resnet18"),
    ("torchvision:raft_small", {"random": True}, "takes pairs of images"),
    ("torchvision:resnet18", {}, "not in the cache; get them by python -c .*, or give --weights FILE or --random"),
    ("torchvision:resnet18", {"weights": "no.pt"}, "--weights no.pt: no such file"),
    ("torchvision:resnet18", {"weights": "own_nets.py"}, "--weights own_nets.py: expected tensors by name"),
    ("torchvision:resnet18", {"weights": "w.pt"}, r"w.pt: does not fit torchvision:resnet18: 102 missing"),
    ("torchvision:vit_b_32", {"weights": "w.pt", "random": True}, "--random and --weights: give one of them"),
    (
        "torchvision:squeezenet1_1",
        {"random": True, "size": 8},
        r"images of 3 x 8 x 8; it takes 3 x 224 x 224: --size 224",
    ),
    ("torchvision:resnet18", {"random": True, "init": {"widht": "3"}}, "cannot be built as asked for .*widht"),
    ("timm:resnet81", {}, "timm has no such model; nearest: "),
    ("timm:resnet18", {}, "not in the cache; get them by python -c .import timm"),
    ("timm:test_vit", {"weights": "w.pt"}, "--weights w.pt do not fit"),
    ("transformers:google/vit-none", {}, "neither a directory nor in the cache.*hf download google/vit-none"),
    ("own_nets:Nett", {}, "own_nets has no Nett; nearest: Net"),
    ("own_nets:Net", {"random": True}, "--random: a network of your own has the weights that it gives itself"),
    ("own_nets:network", {"init": {"width": "3"}}, "--init: it is a network already, there is nothing to call"),
    (
        "transformers:vit",
        {"random": True, "init": {"num_lables": "5"}},
        "--init num_lables: ViTConfig has no such entry",
    ),
    ("own_nets:Net", {"mean": [0.5]}, "--mean and --std: give as many numbers for both, got 1 and 0"),
    ("own_nets:Net", {"mean": [0.5], "std": [0.0]}, "those of --std above 0, got"),
    ("own_nets:Net", {"mean": [0.5] * 3, "std": [1.0] * 3, "size": 28}, "mean and std of 3 channels for images of 1"),
    ("own_netz:Net", {}, "own_netz cannot be imported .*No module named 'own_netz'"),
    ("own_nets:Net", {"init": {"fail": "true"}}, "fails when called with fail=True .*on purpose.*--init NAME=VALUE"),
    ("own_nets:number", {}, "expected a class or a function, got int"),
    ("own_nets:Net", {"size": 64}, "cannot take images of 1 x 64 x 64; it takes 1 x 28 x 28: --size 28"),
    ("no.pt2", {}, "no.pt2: no such file"),
    ("bad.pt2", {}, "bad.pt2: not a file of torch.export.save"),
    ("", {}, ": no such network; expected the directory of a run"),
    ("own_nets.py:Net", {}, "a module's name has no ending; write own_nets:Net"),
    ("http://host/net.pt", {}, "http://host/net.pt: no such network"),
    ("transformers:vit", {}, "transformers:vit: is a type of model, without weights; give --random or --weights FILE"),
    ("weights.pt", {}, "weights.pt: no such network"),
    (".", {}, "not a saved model, there is no config.json"),
    ("gan", {}, "a GAN has no encoder to look into"),
]


@pytest.mark.parametrize(("name", "options", "message"), ERRORS)
def test_every_mistake_is_one_line(name, options, message, here, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(here / "hub"))
    torch.save({"a": torch.zeros(2)}, here / "w.pt")
    (here / "bad.pt2").write_bytes(b"PK\x03\x04")
    if name == "gan":
        GAN((1, 16, 16), latent=3, channels=(4,), width=8).save_pretrained(here / "gan")
    with pytest.raises(NetworkError, match=message) as raised:
        load_network(name, **options)
    assert "\n" not in str(raised.value)


def test_every_file_is_read_once(here):
    for name in ("a", "b"):
        (here / "folder" / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(here / "folder" / f"{name}.png")
    (here / "c.png").symlink_to(here / "folder" / "a.png")  # a file of its own name
    found = image_files([here / "folder" / "b.png", here / "folder", "folder/a.png", here / "c.png"])
    assert [path.stem for path in found] == ["b", "a", "c"]
