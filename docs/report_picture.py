"""Draw the pictures of a report: a real training, its page, and Chromium's view of it.

`report.png` has it in two columns; `player.png` has the player after some steps, and beside it on a phone in dark mode.

``python docs/report_picture.py``; it needs Chromium and its driver, and the extra ``test``.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

# Broken off before it is optimal, so that there is something wrong to be seen.
TRAINING = "train Taxi-v4 --updates 1600 --eval-every 50 --no-early-stop --out models/taxi --json"
REPORT = "report models/taxi -o out/report.html"
WIDTH, HEIGHT, GAP, SCALE, COLORS = 1040, 1480, 20, 0.6, 128
PHONE, PLAYER, STEPS = 390, 1160, 3


def main() -> None:
    """Train, report, and look at it."""
    with tempfile.TemporaryDirectory() as folder:
        for line in (TRAINING, REPORT):
            command = [sys.executable, "-m", "deeptaxi", *line.split()]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, env=os.environ)  # noqa: S603  # ours
        whole, player = look(Path(folder) / "out" / "report.html")
    save(whole, HEIGHT, "report.png")
    save(player, PLAYER, "player.png")


def save(columns: list[Image.Image], height: int, name: str) -> None:
    """Write pictures side by side."""
    picture = Image.new("RGB", (sum(column.width + GAP for column in columns) - GAP, height), "#d3d7dd")
    left = 0
    for column in columns:
        picture.paste(column, (left, 0))
        left += column.width + GAP
    small = picture.resize((round(picture.width * SCALE), round(picture.height * SCALE)), Image.Resampling.LANCZOS)
    small.quantize(COLORS, Image.Quantize.FASTOCTREE).save(Path(__file__).with_name(name), optimize=True)


def look(page: Path) -> tuple[list[Image.Image], list[Image.Image]]:
    """Return the top of the page and the part that begins with the policy; and the player, wide and on a phone."""
    options = webdriver.ChromeOptions()
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", f"window-size={WIDTH},{HEIGHT}"):
        options.add_argument(f"--{argument}")
    options.binary_location = str(shutil.which("chromium"))
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        show(browser, page, WIDTH, "light")
        whole = [shot(browser, top, WIDTH, HEIGHT) for top in (0, top_of(browser, "policy"))]
        player = []
        for width, scheme in ((WIDTH, "light"), (PHONE, "dark")):
            show(browser, page, width, scheme)
            for _ in range(STEPS):
                browser.execute_script("document.getElementById('play-step').click()")
            time.sleep(0.5)  # the disk moves
            player.append(shot(browser, top_of(browser, "play"), width, PLAYER))
        return whole, player
    finally:
        browser.quit()


def show(browser: Any, page: Path, width: int, scheme: str) -> None:
    """Open the page, and wait until all of it is there."""
    size = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())
    ready = "return performance.getEntriesByName('player-complete').length"
    WebDriverWait(browser, 20).until(lambda one: one.execute_script(ready))


def top_of(browser: Any, section: str) -> float:
    """Return where a section begins."""
    return float(browser.execute_script(f"return document.getElementById('{section}').getBoundingClientRect().y"))


def shot(browser: Any, top: float, width: int, height: int) -> Image.Image:
    """Return what is seen from `top` on."""
    clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


if __name__ == "__main__":
    main()
