"""``falign reconstruct``: images in, images out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from feature_alignment.cli.main import main
from feature_alignment.cli.runs import data_of
from feature_alignment.data import load
from feature_alignment.models import Model
from feature_alignment.networks import load_network
from feature_alignment.training import Run


@pytest.fixture
def pixels():
    """A held-out digit, light on dark."""
    return load("mnist-mini", "test").pixels[4, 0].numpy()


def reconstructed(run, digit, folder, *options):
    """Return the feature that the command writes for an image file, as an array."""
    assert main(["reconstruct", str(run), str(digit), "--class", "2", "--out", f"{folder}/", *options]) == 0
    return np.asarray(Image.open(folder / f"{digit.stem}-feature.png"))


def test_written_images_are_the_models(run, tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "four.png")
    model = Model.from_pretrained(run)
    feature = model.reconstruct(torch.from_numpy(pixels)[None, None].float() / 255, torch.tensor([2]))
    expected = (feature[0, 0] * 255).round().byte().numpy()
    assert np.array_equal(reconstructed(run, tmp_path / "four.png", tmp_path / "all"), expected)
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"four-feature.png", "four-refined.png"}
    with Image.open(tmp_path / "all" / "four-refined.png") as refined:
        assert refined.size == (28, 28)


def test_a_negative_is_read_as_what_it_is_of(run, tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "light.png")
    Image.fromarray(255 - pixels).save(tmp_path / "dark.png")
    light = reconstructed(run, tmp_path / "light.png", tmp_path / "a")
    dark = reconstructed(run, tmp_path / "dark.png", tmp_path / "b", "--negative")
    assert np.abs(light.astype(int) - dark).max() <= 1


def test_files_of_16_bits_are_read_by_the_white_of_the_training_images(tmp_path, no_report, capsys):
    """12 bits in 16: the largest value of all training images tells white, that of a dark image alone would not."""
    for number, level in enumerate((4095, 2000, 100, 3000, 1500, 700, 50, 900)):
        (tmp_path / "set").mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, level + 1, (8, 8)).astype(np.uint16)
        pixels[0, 0] = level
        Image.fromarray(pixels).save(tmp_path / "set" / f"{number}.png")
    options = ["--data.image_size=8", "--data.channels=1", "--data.batch_size=4", "--training.steps=2"]
    small = ["--model.latent=3", "--model.channels=[4]", "--model.width=8", "--training.accelerator=cpu"]
    run = tmp_path / "run"
    assert main(["train", "--model=FA", f"--data.name={tmp_path / 'set'}", *options, *small, f"--out={run}"]) == 0
    assert "4095 is taken for white, a guess" in capsys.readouterr().err
    model = Model.from_pretrained(run)
    assert model.white == {"integers": 4095}
    dark = tmp_path / "dark.png"
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(dark)
    assert main(["reconstruct", str(run), str(dark), "--out", f"{tmp_path}/all/"]) == 0
    assert "guess" not in capsys.readouterr().err
    expected = model.reconstruct(torch.full((1, 1, 8, 8), round(255 * 200 / 4095) / 255))
    found = np.asarray(Image.open(tmp_path / "all" / "dark-feature.png"))
    assert np.array_equal(found, (expected[0, 0] * 255).round().byte().numpy())
    # Held-out images alone would be scaled by their own guess.
    held_out = load(str(tmp_path / "set"), "test", image_size=8, channels=1, white=model.white)
    shown = data_of(Run(run), model, "test")
    assert torch.equal(shown.pixels, held_out.pixels)


def test_files_of_any_size_and_format_and_held_out_images_make_a_picture(run, tmp_path, pixels):
    Image.fromarray(255 - pixels).resize((90, 70)).convert("RGB").save(tmp_path / "my_digit.jpg")
    # Options may stand before, between and after the files.
    assert (
        main(["reconstruct", "--negative", str(run), "--out", f"{tmp_path}/out.png", f"{tmp_path}/my_digit.jpg"]) == 0
    )
    with Image.open(tmp_path / "out.png") as picture:
        assert min(picture.size) > 80
    assert main(["reconstruct", str(run), "--count", "3"]) == 0
    assert (run / "reconstruct.png").is_file()


def test_held_out_images_are_not_reconstructed_into_the_folder_of_the_data(sorted_run, capsys):
    run, folder = sorted_run
    before = sorted(folder.rglob("*"))
    for out in (folder, folder / "left", f"{folder / 'new'}/"):
        assert main(["reconstruct", str(run), "--count=2", f"--out={out}"]) == 2
        assert "where the next call would read what is written as images; choose another" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
    assert main(["reconstruct", str(run), "--count=2", f"--out={folder.parent / 'elsewhere'}/"]) == 0


@pytest.mark.parametrize("command", ["reconstruct", "interpolate"])
def test_the_old_name_of_negative_is_answered(command, capsys):
    assert main([command, "anywhere", "--invert"]) == 2
    assert capsys.readouterr().err == "falign: error: --invert is now --negative\n"


def test_an_image_that_is_read_is_not_overwritten(run, tmp_path, pixels, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a-feature.png", "b.png", "c.png"):
        Image.fromarray(pixels).save(name)
    (tmp_path / "link.png").symlink_to("a.png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for arguments, message in (
        (["reconstruct", "a.png", "--out=./a.png"], "--out a.png: would overwrite a.png; choose another name"),
        (["reconstruct", "a.png", "--out=link.png"], "--out link.png: would overwrite link.png; choose another name"),
        (
            ["reconstruct", "a.png", "a-feature.png", "--out=."],
            "--out .: would overwrite a-feature.png; choose another folder",
        ),
        (
            ["interpolate", "a.png", "b.png", "c.png", "a-feature.png", "--out=c.png"],
            "--out c.png: would overwrite c.png; choose another name",
        ),
    ):
        assert main([arguments[0], str(run), *arguments[1:]]) == 2
        assert capsys.readouterr().err == f"falign: error: {message}\n"
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.fixture
def sorted_run(tmp_path, no_report):
    """A conditional model of images in two folders, and the folder of them."""
    for label, name in enumerate(("left", "mid")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(24):
            pixels = np.random.default_rng(number).integers(100 * label, 100 * label + 50, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number:02}.png")
    options = ["--data.image_size=8", "--data.channels=1", "--data.batch_size=4", "--training.steps=2"]
    small = ["--model.latent=3", "--model.channels=[4]", "--model.width=8", "--training.accelerator=cpu"]
    run = tmp_path / "run"
    assert main(["train", "--model=VAE", f"--data.name={tmp_path / 'set'}", *options, *small, f"--out={run}"]) == 0
    return run, tmp_path / "set"


@pytest.mark.parametrize("command", ["reconstruct", "interpolate"])
def test_classes_that_changed_since_the_training_are_refused(command, sorted_run, capsys):
    run, folder = sorted_run
    (folder / "left").rename(folder / "z")
    assert main([command, str(run), f"--out={run.parent / 'out.png'}"]) == 2
    assert "has the classes mid, z; the model was trained on left, mid" in capsys.readouterr().err
    (folder / "a").mkdir()
    (folder / "mid" / "00.png").rename(folder / "a" / "00.png")
    assert main([command, str(run), f"--out={run.parent / 'out.png'}"]) == 2
    assert "3 classes, the model was built for 2" in capsys.readouterr().err
    assert not (run.parent / "out.png").exists()


@pytest.mark.parametrize("command", ["reconstruct", "interpolate"])
def test_an_image_of_the_data_set_is_not_written_over(command, sorted_run, capsys):
    run, folder = sorted_run
    place = folder / "left" / "00.png"
    before = place.read_bytes()
    assert main([command, str(run), f"--out={place}"]) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert place.read_bytes() == before
    assert main([command, str(run), f"--out={folder / 'left' / 'new.png'}"]) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("command", ["reconstruct", "interpolate"])
def test_a_run_saved_in_another_precision_is_used_in_it(command, dtype, sorted_run):
    run, folder = sorted_run
    Model.from_pretrained(run).to(dtype).save_pretrained(run)
    files = [str(folder / "mid" / f"0{number}.png") for number in range(4)]
    for given in ([], files):
        assert main([command, str(run), *given, f"--out={run.parent / 'out.png'}"]) == 0


def test_the_network_of_a_conditional_vae_is_what_comes_before_the_class(sorted_run):
    run, _ = sorted_run
    model, network = Model.from_pretrained(run), load_network(str(run)).module
    images = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(network(images), model.encoder(images))


def test_a_folder_stands_for_the_images_in_it(run, tmp_path, pixels):
    for name in ("photos/a/x.png", "photos/b/x.png", "photos/y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    assert main(["reconstruct", str(run), str(tmp_path / "photos"), "--class=2", f"--out={tmp_path / 'out'}/"]) == 0
    found = {path.name for path in (tmp_path / "out").glob("*-feature.png")}
    assert found == {"a-x.png-feature.png", "b-x.png-feature.png", "y-feature.png"}


def test_no_image_of_a_folder_that_is_read_is_written_over(run, tmp_path, pixels, capsys):
    (tmp_path / "photos").mkdir()
    for name in ("x.png", "x-feature.png"):
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    before = {path: path.read_bytes() for path in (tmp_path / "photos").iterdir()}
    for out, words in (("photos/", "is in "), ("photos/x.png", "would overwrite")):
        assert main(["reconstruct", str(run), str(tmp_path / "photos"), f"--out={tmp_path / 'photos'}{out[6:]}"]) == 2
        assert words in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "photos").iterdir()} == before
