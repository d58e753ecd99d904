"""Debian's Chromium without a window, and the explorer in a process of its own. Nothing is downloaded."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

#: Seconds that are waited for the page, for a picture.
PATIENCE = 60


def missing():
    """Return the programs that are not there."""
    return [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


@contextmanager
def explorer(*arguments, cwd=None, **environment):
    """Run ``falign explore`` on a free port; yields the process and its address."""
    command = [sys.executable, "-m", "feature_alignment", "explore", *map(str, arguments), "--port=0"]
    surroundings = os.environ | {"PYTHONUNBUFFERED": "1"} | environment
    # A shell starts what runs in its background deaf to Ctrl-C, and its children inherit that.
    obey = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=surroundings, preexec_fn=obey
    ) as process:
        impatient = threading.Timer(3 * PATIENCE, process.kill)
        impatient.start()
        try:
            line = process.stdout.readline()
            impatient.cancel()
            assert "http://" in line, process.stderr.read()
            yield process, "http://" + line.partition("http://")[2].split()[0]
        finally:
            impatient.cancel()
            if process.poll() is None:
                process.kill()


@contextmanager
def chromium(width=1280, height=1000):
    """Yield a browser."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(PATIENCE)
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The explorer's page in a browser."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get(address)
        self.until(lambda: self.all("canvas[data-ready]"))

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, true):
        """Wait until a function returns something true, and return that."""
        return WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: true())

    def script(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def source(self, selector):
        """Return the source of a picture, a data URL; none if it is not there."""
        return self.script("return document.querySelector(arguments[0])?.src", selector)

    def text(self, selector):
        return self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def tab(self, name):
        """Open a tab."""
        next(each for each in self.all("button[role=tab]") if each.text == name).click()

    def draw(self, canvas, *lines):
        """Draw lines on a canvas, from point to point, in pixels from its middle."""
        self.script("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", canvas)
        (element,) = self.all(canvas)
        for (x, y), *others in lines:
            hand = ActionChains(self.driver, duration=20).move_to_element_with_offset(element, x, y).click_and_hold()
            for to_x, to_y in others:
                hand.move_by_offset(to_x - x, to_y - y)
                x, y = to_x, to_y
            hand.release().perform()

    def drop(self, canvas, name, content, kind=""):
        """Drop a file onto a canvas."""
        self.script(
            """const [canvas, name, content, kind] = arguments, transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(content)], name, { type: kind }));
            document.querySelector(canvas).dispatchEvent(
              new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));""",
            canvas, name, list(content), kind,
        )  # fmt: skip

    def slide(self, slider, value):
        """Move a slider, as a hand does."""
        self.script(
            """const range = document.querySelector(arguments[0] + " input[type=range]");
            range.value = arguments[1];
            range.dispatchEvent(new Event("input", { bubbles: true }));""",
            slider, value,
        )  # fmt: skip
