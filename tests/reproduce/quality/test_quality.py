"""`falign reproduce quality`: what the search may see, who works on what, and what is done again."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal

import PIL.Image
import pytest
import torch

from feature_alignment import data
from feature_alignment.cli.main import main
from feature_alignment.data import Images
from feature_alignment.reproduce.quality import pictures, splits
from feature_alignment.reproduce.quality.comparison import Comparison
from feature_alignment.reproduce.quality.entries import Entry, Folder
from feature_alignment.reproduce.quality.pictures import draw
from feature_alignment.reproduce.quality.samples import samplers_of
from feature_alignment.reproduce.quality.search import chosen, grid
from feature_alignment.reproduce.quality.settings import plan
from feature_alignment.reproduce.quality.splits import evenly, every_tenth
from feature_alignment.reproduce.quality.table import quality_table, steps_table
from feature_alignment.reproduce.result import Table
from feature_alignment.training import TrainingError


def numbered(count, split="train"):
    pixels = torch.arange(count, dtype=torch.int64).view(count, 1, 1, 1).expand(-1, 1, 28, 28) % 251
    return Images("numbers", split, pixels.byte(), torch.arange(count) % 10, tuple("0123456789"))


def command(out, *more):
    return ["reproduce", "quality", "--scale=smoke", "--seeds=0", "--models", "ae", f"--out={out}", *more]


# --- the search sees training images only ---------------------------------------------------------------------


def test_a_tenth_of_the_training_images_is_held_out_and_the_two_parts_are_the_whole():
    images = numbered(200)
    train, held_out = every_tenth(images)
    assert (len(train), len(held_out)) == (180, 20)
    both = [*train.pixels[:, 0, 0, 0].tolist(), *held_out.pixels[:, 0, 0, 0].tolist()]
    assert sorted(both) == list(range(200))
    assert held_out.labels.tolist() == [images.labels[at] for at in held_out.pixels[:, 0, 0, 0].tolist()]


def test_no_class_is_held_out_whole():
    train, held_out = every_tenth(numbered(200))  # of which every tenth is of one class
    assert train.labels.bincount().tolist() == [18] * 10
    assert held_out.labels.bincount().tolist() == [2] * 10


def test_real_images_are_measured_again_when_they_are_others(tmp_path):
    def measured(scale):
        return Comparison("mnist-mini", scale, [0], tmp_path, ["ae"]).reference()

    smoke, narrow = measured("smoke"), measured("cpu")  # of 100 and of all test images
    assert smoke != narrow
    assert measured("cpu") == narrow
    assert measured("smoke") == smoke


def test_the_linear_map_is_that_of_a_singular_value_decomposition(tmp_path):
    study = Comparison("mnist-mini", "smoke", [0], tmp_path, ["ae"], [4, 8])
    train, test = (each.images().flatten(1).double() for each in (study.sets.table.train, study.sets.table.held_out))
    directions = torch.linalg.svd(train - train.mean(0), full_matrices=False).Vh
    for size, error in study.principal_components().items():
        onto = directions[:size].T @ directions[:size]
        wanted = (train.mean(0) + (test - train.mean(0)) @ onto).clamp(0, 1)
        assert error == pytest.approx(float((wanted - test).square().sum(1).mean()), rel=1e-4)
    assert sorted(study.principal_components()) == [4, 8]


def test_sizes_named_twice_are_one(tmp_path):
    assert list(Comparison("mnist-mini", "smoke", [0], tmp_path, ["ae"], [4, 8, 4]).plan.latents) == [4, 8]


def test_samplers_that_need_more_images_than_there_are_are_not_compared():
    method = plan("smoke", (1, 28, 28), ["ae"]).methods["ae"]
    assert samplers_of(method, numbered(200)) == ["normal", "gaussian", "mixture", "flow"]
    assert samplers_of(method, numbered(60)) == ["normal", "gaussian", "mixture"]


def test_a_search_never_reads_the_test_images(tmp_path, monkeypatch):
    asked = []

    def load(name, split, **options):
        asked.append(split)
        if split != "train":
            raise AssertionError("the search has read the test images")
        return data.load(name, split, **options)

    monkeypatch.setattr(splits, "load", load)
    study = Comparison("mnist-mini", "smoke", [0], tmp_path, ["ae"])
    study.work(["search"])
    assert asked == ["train"]
    finished = study.folder.read(grid(study.plan.methods["ae"], study.plan)[0].name)
    assert (finished["settings"]["train_images"], finished["settings"]["held_out_images"]) == (4050, 450)
    assert finished["settings"]["held_out_of"] == "train"
    with pytest.raises(TrainingError, match="read the test images"):
        study.work(["table"])  # the same guard notices what the table does read


# --- choosing -------------------------------------------------------------------------------------------------


def test_the_smallest_finite_value_is_chosen_and_only_when_all_are_there(tmp_path):
    settings = plan("cpu", (1, 28, 28), ["ae"])
    method, folder = settings.methods["ae"], Folder(tmp_path)
    entries = grid(method, settings)
    assert len({entry.name for entry in entries}) == len(entries) == 12
    for value, entry in enumerate(entries[:-1]):
        folder.write(entry.name, {"criterion": None if value == 0 else 20.0 - value})
    assert chosen(method, settings, folder) is None
    folder.write(entries[-1].name, {"criterion": 19.5})
    best = chosen(method, settings, folder)
    expected = entries[10]
    assert (best["activation"], best["learning_rate"], best["value"]) == (
        expected.activation, expected.learning_rate, 10.0,
    )  # fmt: skip


def test_what_depends_on_the_size_of_images_reaches_the_models_that_name_it():
    small, large = (plan("cpu", shape).methods for shape in ((1, 28, 28), (3, 64, 64)))
    assert (small["fa"].options["max_step"], large["vfa-gan"].options["max_step"]) == (20.0, 40.0)
    assert (small["vfa-gan"].options["perceptual_weight"], large["vfa-gan"].options["perceptual_weight"]) == (0.3, 1.0)
    assert (small["r3gan"].options["penalty_weight"], large["r3gan"].options["penalty_weight"]) == (0.1, 1.6)
    # A refiner's penalty is the model's own, in proportion to the number of values; the bounds are the feature's alone.
    assert "penalty_weight" not in large["vfa-gan"].options
    assert not {"max_step", "max_start"} & set(large["ae"].options)


def test_images_measured_are_evenly_spaced():
    assert evenly(numbered(101), 5).pixels[:, 0, 0, 0].tolist() == [0, 25, 50, 75, 100]
    assert len(evenly(numbered(3), 5)) == 3


def test_an_error_after_further_steps_is_compared_with_that_of_the_same_images(tmp_path):
    """The error is of all held-out images and the curve of some: 3.5 after 16 steps is no gain over 3 of all."""
    study = Comparison("mnist-mini", "cpu", [0, 1], tmp_path, ["fa"])
    for entry in study.entries("search"):
        study.folder.write(entry.name, {"criterion": 1.0})
    after = {0: 3.5, 1: 3.0}
    for entry in study.entries("table"):
        curve = {"0": 8.0, "1": 4.0, "16": after[entry.seed]}
        measures = {"reconstruction_error": {"feature": 3.0}, "error_by_steps": curve}
        study.folder.write(entry.name, {"settings": study.settings(entry), "training": {}, "measures": measures})
    table = quality_table(study)
    row = dict(zip(table.columns, table.rows["fa, 64"], strict=True))
    assert row["error, 16 steps over T"]["values"] == [3.5 / 4, 3.0 / 4]
    assert steps_table(study).rows["fa, 64, seed 1"] == [2.0, 1.0, 0.75]


def test_curves_over_beta_are_drawn_from_what_is_measured(tmp_path, monkeypatch):
    """Error and FID of each beta, as means over seeds, in the order of beta; samplers without curves left out."""
    drawn = {}
    plot = lambda panels, path, *labels, **axis: drawn.update({path.name: (panels, *labels, axis)})  # noqa: E731
    monkeypatch.setattr(pictures, "_plot", plot)
    number = lambda value, std=None: {"values": [value], "mean": value, "std": std}  # noqa: E731
    rows = {
        "vae, 0.3": [0.3, number(7.0), number(70.0), number(50.0)],
        "vae, 1.4": [1.4, number(15.0), None, number(48.0)],
        "vfa, 0.3": [0.3, number(13.0), number(30.0), number(29.0)],
        "vfa, 1.4": [1.4, number(6.0), number(23.0, 1.5), number(22.0)],
    }
    nothing = Table(["latents", "time", "error"], {})
    betas = Table(["beta", "error", "FID, normal", "FID, flow"], rows)
    methods = plan("cpu", (1, 28, 28), ["vae", "vfa"]).methods
    found = draw(tmp_path, "digits", methods, nothing, nothing, betas, Table([], {}), 64)
    assert list(found) == ["fid-error.png"]
    (panels, label, colours, axis) = drawn["fid-error.png"]
    (at, values, deviations) = panels["digits: classifier FID, N(0, I)"].pop("variational feature, T = 1")
    assert (at, values, deviations[1], math.isnan(deviations[0])) == ([13.0, 6.0], [30.0, 23.0], 1.5, True)
    assert panels == {"digits: classifier FID, N(0, I)": {"VAE": ([7.0], [70.0])}}
    assert (label, axis) == ("error per image", {"x_scale": "linear"})
    assert colours == {"VAE": "C0", "variational feature, T = 1": "C2", "principal components": "C7"}


def test_models_with_several_sizes_are_drawn_over_them(tmp_path, monkeypatch):
    drawn = {}
    plot = lambda panels, path, *labels, **axis: drawn.update({path.name: (panels, *labels, axis)})  # noqa: E731
    monkeypatch.setattr(pictures, "_plot", plot)
    number = lambda value: {"values": [value], "mean": value, "std": None}  # noqa: E731
    rows = {"fa, 64": [64, number(2.0)], "fa, 16": [16, number(6.0)], "vae, 64": [64, number(9.0)]}
    mean = {"values": [3.0, 5.0], "mean": 4.0, "std": 1.4}
    wall = {"fa, 64, 9 updates": [64, 1.0, mean], "fa, 64, 3 updates": [64, 0.3, number(7.0)], "fa, 16": [16, 1, mean]}
    tables = Table(["latents", "error"], rows), Table(["latents", "time", "error"], wall), Table(["beta", "error"], {})
    methods = plan("cpu", (1, 28, 28), ["fa", "vae"]).methods
    draw(tmp_path, "digits", methods, *tables, Table([], {}), 64)
    (by_latents, label, _, axis), (by_time, *_) = drawn["error-latents.png"], drawn["error-time.png"]
    assert by_latents == {"digits: error per image": {"feature, T = 1": ([16, 64], [6.0, 2.0])}}
    assert (label, axis) == ("latents", {"x_ticks": [16, 64]})
    # One seed, the first: a mean over three beside a single one is a kink that is not there.
    assert by_time == {"digits, 64 latents: error per image": {"feature, T = 1": ([0.3, 1.0], [7.0, 3.0])}}


def test_lines_of_a_kind_share_a_colour_and_differ_in_style(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(pictures.charts, "plots", lambda panels, path, styles, **axis: given.append(styles))
    number = lambda value: {"values": [value], "mean": value, "std": None}  # noqa: E731
    methods = plan("cpu", (1, 28, 28)).methods
    rows = {f"{name}, {size}": [size, number(2.0)] for name in methods for size in (16, 64)}
    nothing = Table(["latents", "time", "error"], {})
    table = Table(["latents", "error"], rows)
    draw(tmp_path, "digits", methods, table, nothing, Table(["beta", "error"], {}), Table([], {}), 64)
    (styles,) = given
    assert styles["autoencoder"] == {"color": "C0", "marker": "o", "linestyle": "-"}
    assert styles["VAE"] == {"color": "C0", "marker": "o", "linestyle": "--"}
    assert [style["color"] for style in styles.values()].count("C2") == 6
    assert len({tuple(style.values()) for style in styles.values()}) == len(styles) == len(methods)


def test_the_curves_over_steps_have_a_line_for_each_seed(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures.charts, "plots", lambda panels, path, **labels: drawn.append(panels))
    steps = Table(["0", "1", "16"], {"fa, 16, seed 0": [1.5, 1.0, 0.9], "fa, 16, seed 1": [1.6, 1.0, None]})
    nothing = Table(["latents", "time", "error"], {})
    methods = plan("cpu", (1, 28, 28), ["fa"]).methods
    found = draw(tmp_path, "digits", methods, nothing, nothing, Table(["beta", "error"], {}), steps, 64)
    assert list(found) == ["error-steps.png"]
    (panel,) = drawn
    assert panel == {
        "digits: error over that after T steps": {
            "feature, T = 1, 16 latents": [([0.0, 1.0, 16.0], [1.5, 1.0, 0.9]), ([0.0, 1.0], [1.6, 1.0])]
        }
    }


# --- one process at a time, and the next after a kill -----------------------------------------------------------


def _hold(directory, ready):
    with Folder(directory).claimed("one") as mine:
        ready.put(mine)
        signal.pause()


def test_a_claim_excludes_other_processes_until_its_own_is_killed(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Queue()
    other = context.Process(target=_hold, args=(tmp_path, ready))
    other.start()
    assert ready.get(timeout=60)
    with Folder(tmp_path).claimed("one") as mine:
        assert not mine
    assert (tmp_path / "locks" / "one").read_text() == f"{other.pid}\n"
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with Folder(tmp_path).claimed("one") as mine:
        assert mine


def test_an_entry_with_other_settings_is_not_mistaken_for_the_one_asked_for(tmp_path):
    folder = Folder(tmp_path)
    folder.write("one", {"settings": {"updates": 3, "sizes": [1, 2]}})
    assert folder.read("one", {"updates": 3, "sizes": (1, 2)})
    with pytest.raises(TrainingError, match=r"one.json: was trained with other settings"):
        folder.read("one", {"updates": 4, "sizes": (1, 2)})


def test_a_folder_of_another_set_of_the_same_name_is_refused(tmp_path):
    pixels = numbered(40).pixels.numpy()
    for folder, flip in (("one", False), ("other", True)):
        for at, image in enumerate(pixels):
            path = tmp_path / folder / "photos" / f"{at:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(255 - image[0] if flip else image[0]).save(path)

    def study(folder):
        return Comparison(str(tmp_path / folder / "photos"), "smoke", [0], tmp_path / "out", ["ae"], [4])

    study("one").work(["search"])
    study("one").work(["search"])
    with pytest.raises(TrainingError, match=r"out/photos: has the results of .*, not of .*; choose another --out"):
        study("other").work(["search"])


def test_names_tell_all_trainings_apart():
    entries = [
        Entry("fa", latent, seed, updates, 1e-3, "silu", options, kind)
        for latent in (16, 64) for seed in (0, 1) for updates in (10, 20)
        for options in ({}, {"beta": 0.3}) for kind in ("training", "search")
    ]  # fmt: skip
    assert len({entry.name for entry in entries}) == len(entries)


# --- the whole command ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_finished_comparison_is_repeated_bit_for_bit_and_never_twice(tmp_path, capsys):
    assert main(command(tmp_path / "one", "--part", "table")) == 0
    assert main(command(tmp_path / "two", "--part", "table")) == 0
    first, second = (
        json.loads((tmp_path / each / "mnist-mini" / "quality.json").read_text()) for each in ("one", "two")
    )
    assert first["search"] == second["search"]
    place = first["tables"]["table"]["columns"].index("error")
    one, two = (each["tables"]["table"]["rows"]["ae, 4"][place] for each in (first, second))
    assert one == two
    assert one["values"][0] > 0
    assert first["trainings"]["finished"] == 3

    entries = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("entries/*.json")}
    assert main(command(tmp_path / "one", "--part", "table")) == 0
    assert {path: path.stat().st_mtime_ns for path in entries} == entries

    lost = tmp_path / "one" / "mnist-mini" / "entries" / "ae-z4-seed0-4.json"
    before = json.loads(lost.read_text())
    del before["measures"]["classifier_fid"]["gaussian"], before["measures"]["reconstruction_error"]
    lost.write_text(json.dumps(before))  # as if they had come later
    capsys.readouterr()
    assert main(command(tmp_path / "one", "--part", "table")) == 0
    again = json.loads((tmp_path / "one" / "mnist-mini" / "quality.json").read_text())
    assert again["tables"]["table"]["rows"] == first["tables"]["table"]["rows"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--models", "ea"], "--models ea: expected some of ae, tied"),
        (["--part", "pictures"], "--part pictures: expected some of search, table"),
        (
            ["--models", "fa", "gon", "--part", "wall"],
            "--part wall: expected ae, with whose time the others",
        ),
        (
            ["--models", "ae", "vfa-gan", "--part", "table", "betas"],
            "--part betas: expected a model whose search",
        ),
        (["--scale", "paper"], "--scale paper: quality has the scales smoke and cpu"),
        (["--updates", "0"], "--updates: expected at least 1, got 0"),
        (["--fid", "yes"], "--fid, --inception-weights: quality has the classifier FID"),
        (["--latents", "16", "0"], "--latents: expected at least 1, got 0"),
    ],
)
def test_mistakes_are_one_line(more, message, tmp_path, capsys):
    assert main(command(tmp_path, *more)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("falign: error")]
    assert len(lines) == 1
    assert message in lines[0]


def test_options_of_the_comparison_are_refused_elsewhere(tmp_path, capsys):
    assert main(["reproduce", "fig13", "--models", "ae", f"--out={tmp_path}"]) == 2
    assert "--models: for the target quality only" in capsys.readouterr().err
