"""Draw the picture of a report, `report.png`: a real training, its page, and Chromium's view of it, in two columns.

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
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

# Broken off before it is optimal, so that there is something wrong to be seen.
TRAINING = "train Taxi-v4 --updates 1600 --eval-every 50 --no-early-stop --out models/taxi --json"
REPORT = "report models/taxi -o out/report.html"
WIDTH, HEIGHT, GAP, SCALE, COLORS = 1040, 1480, 20, 0.6, 96


def main() -> None:
    """Train, report, and look at it."""
    with tempfile.TemporaryDirectory() as folder:
        for line in (TRAINING, REPORT):
            command = [sys.executable, "-m", "deeptaxi", *line.split()]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, env=os.environ)  # noqa: S603  # ours
        columns = look(Path(folder) / "out" / "report.html")
    picture = Image.new("RGB", (2 * WIDTH + GAP, HEIGHT), "#d3d7dd")
    for place, column in enumerate(columns):
        picture.paste(column, (place * (WIDTH + GAP), 0))
    small = picture.resize((round(picture.width * SCALE), round(picture.height * SCALE)), Image.Resampling.LANCZOS)
    small.quantize(COLORS, Image.Quantize.FASTOCTREE).save(Path(__file__).with_name("report.png"), optimize=True)


def look(page: Path) -> list[Image.Image]:
    """Return the top of the page, and the part that begins with the policy."""
    options = webdriver.ChromeOptions()
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", f"window-size={WIDTH},{HEIGHT}"):
        options.add_argument(f"--{argument}")
    options.binary_location = str(shutil.which("chromium"))
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        policy = browser.execute_script("return document.querySelector('#policy').getBoundingClientRect().y")
        return [shot(browser, top) for top in (0, policy)]
    finally:
        browser.quit()


def shot(browser: Any, top: float) -> Image.Image:
    """Return what is seen from `top` on."""
    clip = {"x": 0, "y": top, "width": WIDTH, "height": HEIGHT, "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


if __name__ == "__main__":
    main()
