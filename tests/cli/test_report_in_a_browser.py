"""Reports as people see them: in Chromium, light and dark, wide and narrow, and on paper."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import LAKE, run

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"),
]
VERMILLION = {"light": (0xC9, 0x4F, 0x00), "dark": (0xFF, 0x8A, 0x4C)}
BLUE = {"light": (0x00, 0x72, 0xB2), "dark": (0x62, 0xB6, 0xEE)}


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(lake_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """A page about an optimal run and one about a run that has learned nothing, each beside its run."""
    folder = tmp_path_factory.mktemp("pages")
    little = ["--updates", 6, "--no-early-stop", "--eval-every", 3, "--out", folder / "bad", "--logs", folder / "logs"]
    assert run("train", *LAKE, "--q-table", *little, "--environments", 4, "--batch-size", 8).exit_code == 0
    made = {"good": (folder / "good.html", lake_run), "bad": (folder / "bad.html", folder / "bad")}
    for page, about in made.values():
        assert run("report", about, "-o", page).exit_code == 0
    return made


def look(browser, page: Path, scheme: str = "light", width: int = 1200) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


def pixels(browser, selector: str) -> np.ndarray:
    """What is seen of an element, `[height, width, 3]`."""
    box = browser.execute_script(
        "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height, scale: 1}",
        selector,
    )
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": box})
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["data"]))).convert("RGB")).astype(int)


def count(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(picture - color).max(axis=2) <= 2).sum())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_a_report_loads_without_errors_and_without_network_requests(browser, pages, scheme, width):
    for page, _ in pages.values():
        look(browser, page, scheme, width)
        assert browser.get_log("browser") == []
        assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        light = pixels(browser, "header").mean()
        assert light > 200 if scheme == "light" else light < 60


def test_the_displayed_numbers_are_those_of_evaluate(browser, pages):
    for page, about in pages.values():
        look(browser, page)
        seen = browser.execute_script(
            "return Object.fromEntries([...document.querySelectorAll('data')].map("
            "d => [d.dataset.key, [Number(d.value), d.innerText]]))"
        )
        exact = json.loads(run("evaluate", about, "--episodes", 0, "--json").stdout)["exact"]
        for key in ("value", "optimal_value", "value_gap", "return", "gap", "optimal_start_states", "start_states"):
            number, text = seen[f"exact.{key}"]
            assert number == exact[key]
            assert float(text.replace("−", "-").replace(",", "")) == pytest.approx(exact[key], abs=5e-5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_wrong_arrows_stand_out_on_the_map_and_an_optimal_run_has_none(browser, pages, scheme):
    look(browser, pages["good"][0], scheme)
    good = pixels(browser, "#chart-policy svg")
    look(browser, pages["bad"][0], scheme)
    bad = pixels(browser, "#chart-policy svg")
    assert count(good, VERMILLION[scheme]) == 0
    assert count(bad, VERMILLION[scheme]) > 200
    assert count(good, BLUE[scheme]) > 1_000  # eleven arrows


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_chart_is_blank(browser, pages, scheme):
    look(browser, pages["bad"][0], scheme)
    names = browser.execute_script("return [...document.querySelectorAll('figure')].map(f => f.id)")
    assert len(names) == 11
    for name in names:
        picture = pixels(browser, f"#{name} svg")
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, name
        background = picture[0, 0]
        drawn = (np.abs(picture - background).max(axis=2) > 60).mean()
        assert drawn > 0.01, name


def test_a_report_can_be_printed(browser, pages):
    look(browser, pages["bad"][0], "dark")
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert pixels(browser, "header").mean() > 200  # paper is white, whatever the screen was
    assert browser.execute_script("return getComputedStyle(document.querySelector('nav')).display") == "none"
