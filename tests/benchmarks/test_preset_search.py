"""The search for a preset: when the shipped one stands, and what the command prints and refuses."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from benchmarks import preset_search, presets
from benchmarks.preset_search import BETTER, STANDS, TRADED, Measured, outcome, tune_preset
from deeptaxi.errors import UsageError
from deeptaxi.presets import packaged_preset

SEEDS = 20


def measured(solved: int, updates: float, seconds: float) -> Measured:
    """Return trainings of which the first are optimal, after about that many updates and seconds."""
    spread = np.linspace(0.9, 1.1, SEEDS)
    return Measured(np.arange(SEEDS) < solved, updates * spread, seconds * spread)


SHIPPED = measured(15, 1_000.0, 1.0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (SHIPPED, STANDS),
        (measured(16, 1_000.0, 0.1), STANDS),  # a seed more is chance; time alone is the last that counts
        (measured(20, 2_000.0, 2.0), BETTER),  # 20 of 20 against 15 of 20: p = 0.025
        (measured(5, 100.0, 0.1), STANDS),  # quicker, but solves fewer
        (measured(15, 500.0, 0.9), BETTER),
        (measured(15, 500.0, 1.01), BETTER),  # no slower, as far as 20 seeds say
        (measured(15, 500.0, 2.0), TRADED),
        (measured(15, 1_500.0, 0.5), STANDS),
    ],
)
def test_a_preset_stands_unless_what_was_found_is_surely_better(found: Measured, expected: str) -> None:
    assert outcome(SHIPPED, found) == expected


def test_half_of_the_seeds_unsolved_have_no_median() -> None:
    assert measured(20, 100.0, 1.0).median_updates == pytest.approx(99.5, abs=1)
    assert measured(5, 100.0, 1.0).median_updates == np.inf
    assert "updates" not in preset_search.figures(measured(5, 100.0, 1.0))


def test_a_preset_is_searched_and_compared_on_unseen_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, out = "frozenlake-sure.q-table", tmp_path / "best.toml"
    before = packaged_preset(name)
    study = tune_preset(name, 2, 2, range(1_000, 1_003), None, out)
    assert (study["trials"], study["seeds"], study["unseen_seeds"]) == (2, "0-1", "1000-1002")
    assert study["shipped"]["seeds"] == 3
    text = capsys.readouterr().out
    table = text.partition("\n[preset.study]")
    assert tomllib.loads(table[1] + table[2])["preset"]["study"] == study
    assert f"| {name} | unseen seeds optimal |" in text
    assert tomllib.loads(out.read_text())["environment"]["id"] == before.problems[0].id
    assert set(tmp_path.iterdir()) == {out}, "no run is saved"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--tune", "taxy"], 2, "unknown preset 'taxy'; did you mean 'taxi'?"),
        (["--tune", "taxi", "--tune-seeds", "1001"], 2, "--tune-seeds 1001: expected at most 1,000"),
        (["--tune", "taxi", "-o", "there.toml"], 2, "there.toml exists: choose another -o"),
        (["--tune", "blackjack", "--trials", "1"], 2, "Blackjack-v1 has no transition table"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    words: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.toml").touch()
    monkeypatch.setattr(sys, "argv", ["presets", *words])
    with pytest.raises(SystemExit) as caught:
        presets.main()
    assert caught.value.code == status
    assert said in capsys.readouterr().err


def test_seeds_that_were_tuned_on_are_not_compared_on() -> None:
    with pytest.raises(UsageError, match="compared on others"):
        preset_search.check("taxi", 1_001, range(1_000, 1_020), None)
