"""Reports as people see them: in Chromium, light and dark, wide and narrow, and on paper."""

from __future__ import annotations

import base64
import io
import json
import re
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


@pytest.fixture(scope="module")
def slippery(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A page about a run where the environment has a choice, beside its run."""
    folder = tmp_path_factory.mktemp("slippery")
    words = ["--q-table", "--updates", 60, "--no-early-stop", "--eval-every", 20, "--out", folder / "run"]
    assert run("train", "FrozenLake-v1", *words, "--logs", folder / "logs").exit_code == 0
    assert run("report", folder / "run", "-o", folder / "page.html").exit_code == 0
    return folder / "page.html", folder / "run"


def agent(browser, name: str = "agent") -> dict:
    return browser.execute_script(f"return {{...document.getElementById('play-{name}').dataset}}")


def press(browser, name: str) -> None:
    browser.find_element("id", f"play-{name}").click()


def choose(browser, value: str) -> None:
    browser.find_element("css selector", f"#play-start option[value='{value}']").click()


def watched(model: Path, *words: object) -> tuple[list[int], list[float], str]:
    """States and returns of the steps that `watch --plain` prints, and its last line."""
    result = run("watch", model, "--plain", *words)
    assert result.exit_code == 0, result.output
    text = result.stdout
    states = [int(state) for state in re.findall(r"^State (\d+)", text, re.MULTILINE)]
    returns = [float(value) for value in re.findall(r"^Episode 1, step \d+: return ([^\s,]+)", text, re.MULTILINE)]
    return states, returns, text.strip().splitlines()[-1]


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("which", ["good", "bad", "slippery"])
def test_an_episode_clicked_through_is_the_one_that_watch_plays(browser, pages, slippery, which, seed):
    page, model = slippery if which == "slippery" else pages[which]
    states, returns, ending = watched(model, "--seed", seed)
    look(browser, page)
    choose(browser, f"seed {seed}")
    seen = [agent(browser)]
    while not seen[-1]["ending"]:
        press(browser, "step")
        seen.append(agent(browser))
        assert len(seen) <= len(states)
        if len(seen) == 12:  # clicking on, a hundred times, would show nothing new
            press(browser, "last")
            break
    assert [int(one["state"]) for one in seen][:11] == states[:11]
    assert [float(one["return"]) for one in seen][:11] == returns[:11]
    last = agent(browser)
    assert [int(state) for state in last["path"].split()] == states
    assert float(last["return"]) == returns[-1]
    words = {"terminated": "terminated", "truncated": "cut by the time limit", "loop": "stopped", "steps": "stopped"}
    assert words[last["ending"]] in ending
    assert words[last["ending"]] in browser.find_element("id", "play-live").text
    assert not browser.get_log("browser")


def test_the_best_return_is_that_of_the_verdict(browser, slippery):
    page, model = slippery
    exact = json.loads(run("evaluate", model, "--json").stdout)["exact"]
    look(browser, page)
    wait(browser)
    assert float(agent(browser)["best"]) == pytest.approx(exact["optimal_return"])  # of its one start


def wait(browser) -> None:
    """Wait until everything that a player shows is there."""
    from selenium.webdriver.support.ui import WebDriverWait

    marks = "return performance.getEntriesByName('player-complete').length"
    WebDriverWait(browser, 20).until(lambda one: one.execute_script(marks))


def test_an_episode_is_played_with_the_keys_alone(browser, pages):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page, model = pages["good"]
    states, _, _ = watched(model, "--state", 4)
    look(browser, page)
    field = browser.find_element("id", "play-state")
    field.send_keys("4", Keys.ENTER)
    assert agent(browser)["state"] == "4"
    browser.find_element("id", "play-step").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert agent(browser)["path"].split() == [str(state) for state in states[:3]]
    ActionChains(browser).send_keys(Keys.ARROW_LEFT).perform()
    assert agent(browser)["step"] == "1"
    ActionChains(browser).send_keys(Keys.END).perform()
    assert agent(browser)["path"].split() == [str(state) for state in states]
    assert "terminated" in browser.find_element("id", "play-live").text
    field.clear()
    field.send_keys("16", Keys.ENTER)
    assert "There is no state 16" in browser.find_element("id", "play-live").text


def test_an_action_an_answer_and_a_cell_can_be_chosen(browser, slippery):
    look(browser, slippery[0])
    wait(browser)
    browser.find_elements("css selector", "#play-agent .play-action")[2].click()  # to the right
    answers = browser.find_elements("css selector", "#play-agent .play-outcome")
    told = [answer.get_attribute("aria-label") for answer in answers]
    assert all(text.startswith("Let this happen: 33.3 %") for text in told)
    answers[next(n for n, text in enumerate(told) if "state 1:" in text)].click()
    assert agent(browser)["path"] == "0 1"
    assert agent(browser, "best")["path"] == "0"
    assert "took right, reward 0" in browser.find_element("id", "play-live").text
    cells = browser.find_elements("css selector", "#play-best rect.pick")
    assert len(cells) == 11
    cells[-1].click()
    assert agent(browser)["path"] == agent(browser, "best")["path"] == "14"
    before = agent(browser)
    press(browser, "last")
    ends = {agent(browser)["path"]}
    for _ in range(8):
        press(browser, "draw")
        assert agent(browser)["path"] == before["path"]
        press(browser, "last")
        ends.add(agent(browser)["path"])
    assert len(ends) > 1


def test_the_slider_shows_the_policy_of_each_snapshot(browser, slippery):
    from selenium.webdriver.common.keys import Keys

    look(browser, slippery[0])
    wait(browser)
    slider, text = browser.find_element("id", "play-snapshot"), browser.find_element("id", "play-snapshot-text")
    assert slider.get_attribute("max") == "2"
    assert text.text.startswith("Update 60")
    signs = "return document.querySelectorAll('#play-snapshot-map path.sign').length"
    assert browser.execute_script(signs) == 11
    slider.send_keys(Keys.ARROW_LEFT)
    assert text.text.startswith("Update 40")
    assert "changed since the snapshot before" in text.text
    slider.send_keys(Keys.HOME)
    assert text.text.startswith("Update 20")
    wrong = int(re.findall(r"(\d+) of 11 states have a wrong action", text.text)[0])
    assert browser.execute_script("return document.querySelectorAll('#play-snapshot-map .wrong').length") == wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_player_fits_a_phone_and_is_readable(browser, slippery, scheme, width):
    look(browser, slippery[0], scheme, width)
    wait(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for element in browser.find_elements("css selector", "#player button, #player select, #player input"):
        if element.is_displayed():
            assert element.size["height"] >= 32, element.get_attribute("outerHTML")
            assert element.accessible_name, element.get_attribute("outerHTML")
    picture = pixels(browser, "#play-agent svg")
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert count(picture, BLUE[scheme]) > 200  # the disk where the agent is


def test_the_player_is_ready_within_a_second_on_a_slow_phone(browser, slippery):
    browser.execute_cdp_cmd("Emulation.setCPUThrottlingRate", {"rate": 4})
    try:
        times = []
        for _ in range(3):
            look(browser, slippery[0], width=390)
            wait(browser)
            times.append(browser.execute_script("return performance.getEntriesByName('player-ready')[0].startTime"))
        assert min(times) < 1_000, times
    finally:
        browser.execute_cdp_cmd("Emulation.setCPUThrottlingRate", {"rate": 1})


def test_the_player_is_not_printed(browser, slippery):
    look(browser, slippery[0])
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.find_element("id", "play").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
