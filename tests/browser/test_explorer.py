"""The page in a browser, served by the command itself."""

from __future__ import annotations

import base64
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from browser.chromium import Page, chromium, explorer, missing
from feature_alignment.data import load
from feature_alignment.models import VFAGAN, Updates

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(missing()), reason=f"needs {' and '.join(missing())}: `make test-browser` installs them"),
]
ROOT = Path(__file__).parents[2]
NARROW = {"channels": (4, 8), "width": 32, "latent": 8, "refiner_filters": 4, "discriminator_width": 8}
UPDATES = 60
#: A seven, from the canvas's middle.
SEVEN = [(-60, -80), (60, -80), (0, 100)]
FEATURE, REFINED, IMAGE = (f"#view [data-kind={kind}] img" for kind in ("feature", "refined", "image"))


def pixels(url):
    """Return the pixels of a data URL."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))), float)


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache):
    """A model of the quickstart's recipe, narrower, after a few updates."""
    directory, train = tmp_path_factory.mktemp("run"), load("mnist-mini", "train")
    recipe = yaml.safe_load((ROOT / "src/feature_alignment/configs/quickstart.yaml").read_text())["model"]["init_args"]
    torch.manual_seed(0)
    model = VFAGAN((1, 28, 28), classes=10, **recipe | NARROW)
    updates = Updates(model, total=UPDATES)
    for _ in range(UPDATES):
        chosen = torch.randint(len(train), (64,))
        updates.step(train.pixels[chosen], train.labels[chosen])
    model.eval().fit_samplers(train.pixels[:500], train.labels[:500])
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def driver():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(run, driver, cache):
    """The page of the run; SIGTERM ends it, without a traceback."""
    with explorer(run, FALIGN_CACHE=str(cache)) as (process, address):
        yield Page(driver, address)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.strip() == f"falign: interrupted {run}: the page is closed"


def test_a_drawn_digit_has_a_latent_a_feature_and_a_refined_image(page):
    before = page.source(FEATURE)
    assert before
    assert page.source(REFINED)
    assert page.source(IMAGE) is None
    assert "begin at the mean latent" in page.text("#status")
    page.draw("#pad canvas", SEVEN)
    drawn = pixels(page.until(lambda: page.source(IMAGE) if "inferred" in page.text("#status") else None))
    assert drawn.shape == (28, 28)
    assert drawn[6, 8:20].min() > 200  # the bar, in the ink of the model's images
    assert drawn[20, :8].max() < 60
    assert page.until(lambda: page.source(FEATURE)) != before
    assert len(page.all("#view svg rect")) == 8  # the latent's numbers


def test_sliders_class_and_stress_change_the_picture(page):
    def changed(act):
        feature, refined = page.source(FEATURE), page.source(REFINED)
        act()
        page.until(lambda: page.source(FEATURE) not in (feature, None))
        assert np.abs(pixels(page.source(FEATURE)) - pixels(feature)).max() > 2
        assert page.source(REFINED) != refined

    image = page.source(IMAGE)
    changed(lambda: page.slide("#direction-1", 3))
    changed(lambda: page.slide("#direction-2", -3))
    changed(lambda: page.slide("#stress", 3))
    changed(lambda: page.all("#class label")[5].click())
    assert page.source(IMAGE) == image


def test_a_file_that_is_no_image_is_one_line_and_the_page_goes_on(page):
    feature = page.source(FEATURE)
    page.drop("#pad canvas", "notes.txt", b"hello", "text/plain")
    page.until(lambda: "notes.txt: not a readable image (format not recognised)" in page.text("#status"))
    page.drop("#pad canvas", "broken<b>.png", b"\x89PNG\r\n\x1a\n1234", "image/png")
    page.until(lambda: "broken<b>.png: not a readable image" in page.text("#status"))
    assert page.source(FEATURE) == feature
    assert "Traceback" not in page.text("body")
    Image.new("RGB", (90, 60), "white").save(file := io.BytesIO(), "WEBP")
    page.drop("#pad canvas", "white.webp", file.getvalue(), "image/webp")
    page.until(lambda: "inferred" in page.text("#status"))
    assert pixels(page.source(IMAGE)).min() == 255
    centre = "return [...document.querySelector('#pad canvas').getContext('2d').getImageData(140, 140, 1, 1).data]"
    page.until(lambda: page.script(centre) == [255] * 4)  # the canvas shows it


def test_a_walk_samples_and_a_layer(page):
    page.tab("Walk")
    middle = page.until(lambda: page.source("#between img"))
    page.slide("#position", 1)
    page.until(lambda: page.source("#between img") != middle)
    strip = [page.source(f"#strip img:nth-of-type({k})") for k in range(1, 12)]
    assert page.source("#between img") == strip[-1]
    page.draw("#pad-right canvas", SEVEN)
    page.until(lambda: page.source("#strip img:nth-of-type(11)") not in (strip[-1], None))
    page.tab("Samples")
    first = page.until(lambda: page.source("#samples img"))
    assert len(page.all("#samples .fa-row")) == 10
    page.all("#again")[0].click()
    page.until(lambda: page.source("#samples img") not in (first, None))
    page.tab("Layers")
    page.until(lambda: page.all("#layers label"))[0].click()
    page.until(lambda: page.source("#pre-image [data-kind=pre-image] img"))
    assert "residual" in page.text("#layer-status")


def test_nothing_comes_from_elsewhere_and_nothing_is_broken(page):
    names = page.script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert [name for name in names if not name.startswith(("http://127.0.0.1", "data:", "blob:"))] == []
    assert [each["message"] for each in page.driver.get_log("browser") if each["level"] == "SEVERE"] == []
    wide, shown = page.script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= shown


NETWORK = """
from torch import nn
def network():
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 16 * 16, 10))
"""


def test_a_layer_of_any_network_shows_its_pre_image(driver, tmp_path, cache):
    (tmp_path / "mine.py").write_text(NETWORK)
    with explorer("mine:network", "--size=16", cwd=tmp_path, FALIGN_CACHE=str(cache)) as (process, address):
        page = Page(driver, address)
        assert [each.text for each in page.all("button[role=tab]")] == ["Layers"]
        assert page.text("#layers").splitlines()[1:] == [
            "0 · Conv2d · 6 x 16 x 16", "1 · Tanh · 6 x 16 x 16", "2 · Flatten · 1536", "3 · Linear · 10",
            "output · Sequential · 10",
        ]  # fmt: skip
        picture = np.zeros((16, 16, 3), np.uint8) + 60
        picture[4:12, 4:12] = (200, 120, 40)
        Image.fromarray(picture).save(file := io.BytesIO(), "PNG")
        page.drop("#pad-layers canvas", "square.png", file.getvalue(), "image/png")
        page.until(lambda: page.source("#pre-image [data-kind=image] img"))
        page.all("#layers label")[1].click()
        found = pixels(page.until(lambda: page.source("#pre-image [data-kind=pre-image] img")))
        assert np.abs(found - picture).mean() < 12  # 1,536 numbers of a linear layer and Tanh keep 768 pixels
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert errors.strip() == "falign: interrupted mine:network: the page is closed"


def test_a_space_shows_the_same_page(driver, run, cache, tmp_path):
    for file in (*run.iterdir(), ROOT / "examples" / "space" / "app.py"):
        shutil.copy(file, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with subprocess.Popen(
        [sys.executable, "app.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"GRADIO_SERVER_PORT": port, "FALIGN_CACHE": str(cache), "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        try:
            said = next(line for line in process.stdout if f":{port}" in line)
            assert "http://127.0.0.1" in said
            page = Page(driver, f"http://127.0.0.1:{port}")
            before = page.until(lambda: page.source(FEATURE))
            page.slide("#direction-1", 2)
            page.until(lambda: page.source(FEATURE) not in (before, None))
        finally:
            process.kill()
