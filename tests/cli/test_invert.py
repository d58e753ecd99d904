"""``falign invert``: the pictures are those of the layer asked for, and nothing that was done is lost."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch import nn

from feature_alignment import models
from feature_alignment.cli import pre_images
from feature_alignment.cli.main import main
from feature_alignment.cli.outputs import fitted_images
from feature_alignment.report import sheets

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    '''The layer "same" has the image, "halves" the mean of its left half and of its right half.'''
    def __init__(self):
        super().__init__()
        self.same, self.halves = nn.Identity(), nn.AdaptiveAvgPool2d((1, 2))
        self.unused = nn.Identity()

    def forward(self, x):
        return self.halves(self.same(x)).mean(1).flatten(1)

class Against(Net):
    def forward(self, x):
        means = super().forward(x)
        return means - means.flip(1)

class Labelled(Net):
    def forward(self, x):
        scores = super().forward(x)
        return {"label": scores.argmax(1), "name": "two halves", "scores": scores, "loss": None}

class Noisy(Net):
    def forward(self, x):
        return super().forward(x + torch.rand(1))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a network of the user's and two photographs, as files and in folders."""
    sklearn = pytest.importorskip("sklearn.datasets")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "halves_net.py").write_text(OWN)
    for name, pixels in zip(("china", "flower"), sklearn.load_sample_images().images, strict=True):
        for folder in (".", "a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.jpg")
    yield tmp_path
    sys.modules.pop("halves_net", None)


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, by the name of the file."""
    found = {}
    monkeypatch.setattr(pre_images, "draw_pair", lambda each, what, path: found.update({path.name: (each, what)}))
    return found


NET = ["halves_net:Net", "--size=32", "--evaluations=80", "--tolerance=0.001"]
SAME = [*NET, "--layer=same", "--variables=pixels"]


def invert(*arguments):
    return main(["invert", *map(str, arguments)])


def test_a_layer_that_keeps_everything_gives_the_photograph_back(here, drawn, capsys):
    assert invert(*SAME, "china.jpg") == 0
    ((each, what),) = drawn.values()
    assert what == "same"
    assert each.photo.shape == (3, 32, 32)
    assert (each.photo - each.found).norm() <= 0.001 * each.photo.norm() + 1e-6
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"china.jpg: residual {each.residual:.3g} after {each.evaluations} evaluations"
    assert each.residual == pytest.approx(float((each.photo - each.found).norm() / each.photo.norm()), rel=1e-3)


def test_a_layer_that_keeps_two_means_gives_those_alone(here, drawn):
    assert invert(*NET, "china.jpg", "--variables=bounded") == 0
    ((each, _),) = drawn.values()
    halves = [[part.mean() for part in picture.split(16, dim=2)] for picture in (each.photo, each.found)]
    torch.testing.assert_close(*map(torch.tensor, halves), rtol=2e-3, atol=0)
    assert each.found[:, :, :16].std() < 0.01 < each.photo[:, :, :16].std()
    drawn.clear()
    assert invert(*NET, "china.jpg", "--unit=1", "--variables=pixels") == 0
    ((each, what),) = drawn.values()
    assert what == "output unit 1"
    assert each.found[:, :, 16:].mean() == pytest.approx(float(each.photo[:, :, 16:].mean()), rel=2e-3)
    torch.testing.assert_close(each.found[:, :, :16], torch.full((3, 32, 16), 0.5))  # not asked for


@pytest.mark.parametrize("chosen", ["--unit=1", "--class=1"])
def test_outputs_that_are_no_numbers_are_passed_over(here, drawn, chosen):
    assert invert("halves_net:Labelled", *NET[1:], "china.jpg", chosen, "--variables=bounded") == 0
    ((each, _),) = drawn.values()
    assert each.found[:, :, 16:].mean() == pytest.approx(float(each.photo[:, :, 16:].mean()), rel=2e-3)


def test_what_excites_a_class_most(here, monkeypatch, capsys):
    found = []
    monkeypatch.setattr(sheets, "grid", lambda images, path, **_: found.append((images[0, 0], path.name)))
    assert invert("halves_net:Against", *NET[1:3], "--class=1", "--out=most.png") == 0
    ((picture, name),) = found
    left, right = (float(part.mean()) for part in picture.split(16, dim=2))
    assert right > left + 0.5
    assert capsys.readouterr().out.splitlines() == [f"class 1: 0 for grey, {right - left:.4g} now", "Wrote most.png"]
    assert name == "most.png"
    (here / "out").mkdir()
    (here / "out" / "CLASS-1.PNG").write_text("of another origin")
    assert invert("halves_net:Against", *NET[1:3], "--class=1", "--out=out/") == 0
    assert found[-1][1] == "class-1-2.png"


def test_a_folder_of_pictures_is_resumed_and_nothing_overwritten(here, capsys):
    (here / "a" / "broken.jpg").write_text("no image")
    (here / "out").mkdir()
    (here / "out" / "china-same.png").write_text("of the user's own")
    arguments = [*SAME, "a", "b", "--out=out/"]
    assert invert(*arguments) == 0
    said = capsys.readouterr()
    assert "falign: warning: skipped a/broken.jpg: not a readable image" in said.err
    assert said.out.splitlines()[-1] == "Wrote 4 pictures to out"
    names = ["china-same-2.png", "china-same-3.png", "flower-same-2.png", "flower-same.png"]
    assert sorted(path.name for path in (here / "out").glob("*.png")) == sorted([*names, "china-same.png"])
    assert (here / "out" / "china-same.png").read_text() == "of the user's own"
    record = json.loads((here / "out" / "inversions.json").read_text())
    assert sorted(record) == names
    assert all(entry["residual"] <= 0.001 for entry in record.values())
    before = {name: (here / "out" / name).stat().st_mtime_ns for name in names}
    (here / "out" / "flower-same.png").unlink()
    Image.new("RGB", (40, 40), "red").save(here / "b" / "china.jpg")
    assert invert(*arguments) == 0
    said = capsys.readouterr().out
    assert "Kept 2 of 5 pictures in out, made before with the same settings" in said
    assert "Wrote 2 pictures to out" in said
    after = {name: (here / "out" / name).stat().st_mtime_ns for name in names}
    assert [name for name in names if before[name] == after[name]] == ["china-same-2.png", "flower-same-2.png"]
    assert invert(*arguments, "--variables=bounded") == 0
    assert "Wrote 4 pictures to out" in capsys.readouterr().out
    assert sorted(json.loads((here / "out" / "inversions.json").read_text())) == names


def test_an_interrupted_search_keeps_what_is_done(here, monkeypatch, capsys):
    searched = pre_images.invert
    calls = []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return searched(*arguments, **options)

    monkeypatch.setattr(pre_images, "invert", interrupted)
    arguments = [*SAME, "china.jpg", "flower.jpg", "--out=out/", "--batch-size=1"]
    assert invert(*arguments) == 130
    assert {path.name for path in (here / "out").iterdir()} == {".lock", "china-same.png", "inversions.json"}
    assert invert(*arguments) == 0
    assert "Kept 1 of 2 pictures in out" in capsys.readouterr().out
    assert len(calls) == 3


def test_a_second_network_gets_pictures_of_its_own(here):
    """By its name, and by its weights where the name is the same."""
    pictures = {}
    for number, network in enumerate(("a_run", "another_run", "a_run"), 1):
        torch.manual_seed(number)
        models.AE((3, 32, 32), latent=4, channels=[4], width=16).save_pretrained(network)
        assert invert(network, "china.jpg", "--evaluations=4", "--variables=pixels", "--out=out/") == 0
        assert {name: (here / "out" / name).read_bytes() for name in pictures} == pictures
        pictures = {path.name: path.read_bytes() for path in (here / "out").glob("*.png")}
        assert len(pictures) == len(json.loads((here / "out" / "inversions.json").read_text())) == number


@pytest.mark.parametrize("out", ["a/", "a/pictures/"])
def test_pictures_are_not_written_among_the_images_of_the_search(here, capsys, out):
    before = sorted(here.rglob("*"))
    assert invert(*SAME, "a", f"--out={out}") == 2
    assert (
        "is in a, where the next call would read what is written as images; choose another" in capsys.readouterr().err
    )
    assert sorted(here.rglob("*")) == before


HOLD = """
import sys
from feature_alignment.files import locked
with locked("out/.lock", RuntimeError()):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_one_search_at_a_time_writes_into_a_folder(here, capsys):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD], **pipes) as first:
        assert first.stdout.readline() == "locked\n"
        assert invert(*SAME, "china.jpg", "--out=out/") == 2
        assert "out: another search is writing into it; wait for its end" in capsys.readouterr().err
        assert [path.name for path in (here / "out").iterdir()] == [".lock"]
        first.kill()
    assert invert(*SAME, "china.jpg", "--out=out/") == 0


VIT = ["image_size=32", "patch_size=8", "hidden_size=16", "num_hidden_layers=1", "num_attention_heads=2"]


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (["torchvision:squeezenet1_1", "--random", "--size=48"], "features.5"),
        (["timm:test_vit", "--random", "--size=64"], "blocks.1"),
        (["transformers:vit", "--random", *(f"--init={each}" for each in VIT)], "vit.layers.0"),
        (["fixed.pt2"], "1"),
        (["RUN"], "encoder.2"),
    ],
    ids=lambda each: each[0].partition(":")[0] if isinstance(each, list) else "",
)
def test_every_kind_of_network(network, layer, here, run):
    if network[0] == "fixed.pt2":
        net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 15 * 15, 5))
        torch.export.save(torch.export.export(net, (torch.zeros(2, 3, 32, 32),)), "fixed.pt2")
    arguments = [str(run) if each == "RUN" else each for each in network]
    options = ["--evaluations=12", "--batch-size=3", "--out=out.png"]
    assert invert(*arguments, "--layer", layer, "china.jpg", "flower.jpg", "a/china.jpg", *options) == 0
    assert Image.open("out.png").size[0] > 100


def test_variables_fitted_to_a_folder(here, run, drawn):
    for number, shade in enumerate((40, 90, 140)):
        Image.new("L", (28, 28), shade).save(here / "a" / f"{number}.png")
    for name in ("china.jpg", "flower.jpg"):
        (here / "a" / name).unlink()
    assert invert(run, "--evaluations=20", "a/1.png", "--variables=a") == 0
    ((each, _),) = drawn.values()
    assert each.found.std() < 0.01  # of flat images only flat ones are likely


@pytest.mark.parametrize(
    ("kind", "classes"), [("FA", 0), ("VFA", 3), ("VAE", 3), ("AE", 0), ("GAN", 0)], ids=lambda each: str(each)
)
def test_variables_decoded_by_a_run(kind, classes, here, drawn):
    """The picture is one that the run's model decodes, while the layer asks for every pixel of the photograph."""
    torch.manual_seed(0)
    model = getattr(models, kind)((3, 32, 32), classes=classes, latent=4, channels=[4, 4], width=16).eval()
    for weight in model.decoder.parameters() if kind in ("AE", "VAE") else ():
        weight.data *= 3  # or else all its pictures are nearly one
    model.save_pretrained("decoder")
    assert invert(*NET, "--layer=same", "china.jpg", "--variables=decoder") == 0
    ((each, _),) = drawn.values()
    assert each.residual > 0.1
    decode = {"FA": "feature", "VFA": "feature", "GAN": "generate"}.get(kind)

    def decoded(u):
        if decode is None:
            return model.decoder(u)
        return getattr(model, decode)(u[:, :4], *([u[:, 4:]] if classes else []))

    u = torch.zeros(1, 4 + classes)
    u[:, 4:] = 1 / (classes or 1)
    u.requires_grad_()
    optimizer = torch.optim.LBFGS([u], max_iter=300, line_search_fn="strong_wolfe", tolerance_change=0)

    def error():
        optimizer.zero_grad()
        loss = (decoded(u) - each.found).square().sum()
        loss.backward()
        return loss

    optimizer.step(error)
    assert float(error().detach().sqrt() / each.found.norm()) < 1e-2
    assert (each.found - decoded(torch.zeros_like(u)).detach()).norm() > 0.02 * each.found.norm()  # not the start's


MISTAKES = [
    (["halves_net:Net", "china.jpg", "--layer=sme"], "--layer sme: the network has no module 'sme'; nearest: same"),
    (["halves_net:Net", "china.jpg", "--layer=unused"], "unused: names: the network does not call its module 'unused'"),
    (["halves_net:Net", "china.jpg", "--unit=2"], "output unit 2: units: the output has 2 channels, 0 to 1, got 2"),
    (["halves_net:Net", "china.jpg", "--class=2"], "--class 2: halves_net:Net has 2 classes without names; expected 0"),
    (["halves_net:Net", "china.jpg", "--class=1", "--layer=same"], "--class: is a unit of the network's output"),
    (["halves_net:Net", "china.jpg", "--unit=-1"], "--unit: expected at least 0, got -1"),
    (["halves_net:Net"], "images: expected at least one, or --unit or --class for what excites it most"),
    (["halves_net:Net", "--unit=1", "--variables=pixels"], "--variables pixels: have no bounds to maximise within"),
    (["halves_net:Net", "--unit=1", "--jitter=4"], "--jitter: is of the search for an image's pre-image; there are no"),
    (["halves_net:Net", "--unit=1", "--tolerance=.9"], "--tolerance: is of the search for an image's pre-image"),
    (["halves_net:Net", "china.jpg", "--out=china.jpg"], "--out china.jpg: would overwrite china.jpg; choose another"),
    (["halves_net:Net", "a", "--out=a/china.jpg"], "--out a/china.jpg: would overwrite a/china.jpg; choose another n"),
    (["halves_net:Net", "china.jpg", "--out=a.json"], "--out a.json: expected a name ending in .png"),
    (["halves_net:Net", "china.jpg", "--variables=naturl"], "--variables naturl: expected pixels, bounded, natural"),
    (["halves_net:Net", "china.jpg", "--evaluations=0"], "--evaluations: expected at least 2, got 0"),
    (["halves_net:Net", "china.jpg", "--tolerance=0"], "--tolerance: expected more than 0, got 0.0"),
    (["halves_net:Net", "no.jpg"], "images: none of the 1 can be read"),
    (["halves_net:Net", "empty"], "empty: no images in this folder"),
    (["halves_net:Noisy", "china.jpg"], "output: network: "),
    (["halves_net:Net", "china.jpg", "--out=a.gif"], "--out a.gif: expected a name ending in .png"),
    (["halves_net:Net", "china.jpg", "--init=width"], "--init width: expected KEY=VALUE"),
    (["halves_net:Net", "china.jpg", "--device=abacus"], "--device abacus: cannot be used here; cpu always can"),
    (["torchvision:resnet18", "china.jpg", "--random", "--class=goldfsh"], "class 'goldfsh': none of the 1000"),
    (["halves_net:Net", "china.jpg", "--out=damaged/"], "damaged/inversions.json: not a record of pictures"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_every_mistake_is_one_line_and_exit_code_2(arguments, message, here, capsys):
    (here / "empty").mkdir()
    (here / "damaged").mkdir()
    (here / "damaged" / "inversions.json").write_text("{")
    assert invert(*arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "warning: skipped" not in line]
    assert len(errors) == 1, errors
    assert errors[0].startswith(f"falign: error: {message}")


def test_a_folder_with_the_name_of_variables_is_not_read(here):
    (here / "natural").mkdir()
    assert fitted_images("natural") == []
    assert fitted_images("b") == ["b"]


@pytest.mark.parametrize("images", [["a/china.jpg"], ["--unit=0"]])
@pytest.mark.parametrize("out", ["b/", "b/flower.jpg"])
def test_the_images_to_which_variables_are_fitted_are_kept(here, capsys, images, out):
    before = {path: path.read_bytes() for path in (here / "b").iterdir()}
    assert invert(*NET[:2], "--layer=same", *images, "--variables=b", f"--out={out}") == 2
    assert f"error: --out {out}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (here / "b").iterdir()} == before
