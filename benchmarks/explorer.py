"""How long the explorer takes from a slider to the picture, for the quickstart's model; speed is that of any weights.

The command is run in a process of its own, on two threads by default. ``interface``: one event, from a script, over
HTTP. ``browser``: from the slider's event in Chromium to the frame after the new picture is decoded. ``drawing``: from
the end of a line to the picture of what was drawn. Prints one JSON object. Needs Chromium: `make test-browser`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.chromium import Page, chromium, explorer  # noqa: E402

from feature_alignment.models import VFAGAN  # noqa: E402

LIMIT = 200
MOVED = """
const [slider, value, done] = arguments, picture = "#view [data-kind=refined] img";
const before = document.querySelector(picture).src, range = document.querySelector(slider + " input[type=range]");
const began = performance.now();
const observer = new MutationObserver(async () => {
  const shown = document.querySelector(picture);
  if (!shown || shown.src === before) return;
  observer.disconnect();
  await shown.decode();
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
});
observer.observe(document.querySelector("#view"), { subtree: true, childList: true, attributes: true });
range.value = value;
range.dispatchEvent(new Event("input", { bubbles: true }));
"""


def quickstart_model() -> VFAGAN:
    """Return the quickstart's model for ten digits, untrained, with samplers fitted to latents of noise."""
    recipe = yaml.safe_load((ROOT / "src/feature_alignment/configs/quickstart.yaml").read_text())
    torch.manual_seed(0)
    model = VFAGAN((1, 28, 28), classes=10, **recipe["model"]["init_args"])
    model.fit_samplers(torch.rand(1000, 1, 28, 28), torch.arange(1000) % 10)
    return model


def by_script(address: str, repeats: int) -> Iterator[float]:
    """Yield the milliseconds of each event, from a script."""
    from gradio_client import Client

    client = Client(address, verbose=False)
    numbers = [0.0] * 8
    for repeat in range(repeats):
        numbers[0] = (repeat % 30) / 10
        began = time.perf_counter()
        client.predict(3, 1.0, *numbers, api_name="/move_0")
        yield 1000 * (time.perf_counter() - began)


def by_slider(page: Page, repeats: int) -> Iterator[float]:
    """Yield the milliseconds from a slider's event to the picture."""
    for repeat in range(repeats):
        yield page.driver.execute_async_script(MOVED, f"#direction-{repeat % 8 + 1}", 2 - (repeat // 8 % 5))


def by_drawing(page: Page, repeats: int) -> Iterator[float]:
    """Yield the milliseconds from the end of a line to the picture of all that was drawn."""
    for repeat in range(repeats):
        before = page.source("#view [data-kind=refined] img")
        page.draw("#pad canvas", [(-100 + 12 * repeat, -90), (-100 + 12 * repeat, 90)])
        began = time.perf_counter()
        page.until(lambda before=before: page.source("#view [data-kind=refined] img") not in (before, None))
        yield 1000 * (time.perf_counter() - began)


def summary(taken: Callable[[], Iterator[float]]) -> dict[str, float]:
    """Return median, 95th percentile and largest, in milliseconds, without the first two."""
    found = sorted([*taken()][2:])
    return {
        "median_ms": round(statistics.median(found), 1),
        "p95_ms": round(found[round(0.95 * (len(found) - 1))], 1),
        "largest_ms": round(found[-1], 1),
        "repeats": len(found),
    }


def measure(threads: int, repeats: int) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as directory:
        quickstart_model().save_pretrained(directory)
        with explorer(directory, OMP_NUM_THREADS=str(threads)) as (_, address), chromium() as driver:
            page = Page(driver, address)
            return {
                "interface": summary(lambda: by_script(address, repeats)),
                "browser": summary(lambda: by_slider(page, repeats)),
                "drawing": summary(lambda: by_drawing(page, min(repeats, 16))),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=42)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    found = measure(options.threads, options.repeats)
    load, *_ = os.getloadavg()
    result = {
        "benchmark": "explorer",
        "device": f"cpu ({options.threads} threads of {os.cpu_count()} cores, {platform.machine()})",
        "load_average": round(load, 1),
        "niceness": os.nice(0),
        "torch": torch.__version__,
        "limit_ms": LIMIT,
        "slider_within_limit": found["browser"]["p95_ms"] <= LIMIT,
        **found,
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
