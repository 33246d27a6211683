from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.environments import EnvSpec
from deeptaxi.api.run import Run
from deeptaxi.errors import UsageError
from deeptaxi.evaluation.watching import EpisodeStep
from deeptaxi.network.build import build_q_network, weights_digest
from tests.cli.conftest import run as command


def test_a_run_has_the_attributes_that_scripts_use(lake: Run) -> None:
    assert lake.q_values.shape == (16, 4)
    np.testing.assert_array_equal(lake.policy, lake.q_values.argmax(axis=1))
    np.testing.assert_array_equal(lake.q_values, lake.network(np.arange(16)))
    assert lake.weights_digest == weights_digest(lake.network)
    assert lake.exact_unavailable is None
    assert lake.coverage is not None
    assert lake.coverage.visits.shape == (16, 4)
    assert lake.discount() == 0.99
    assert lake.failure is None
    with pytest.raises(ValueError, match="read-only"):
        lake.q_values[0, 0] = 1


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # it is our own


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_a_run_can_be_copied_and_pickled(again: Callable[[Run], Run], lake: Run, kept: Run, blackjack: Run) -> None:
    for one in (lake, kept, blackjack):
        other = again(one)
        assert (repr(other), other.weights_digest) == (repr(one), one.weights_digest)
        np.testing.assert_array_equal(other.q_values, one.q_values)
        assert not other.q_values.flags.writeable
        assert other.exact_at(0.9) == one.exact_at(0.9)
        played = ([step.state for step in run.play(seed=3, max_steps=5)] for run in (other, one))
        assert next(played) == next(played)
        assert other.to_dict() == one.to_dict()


def test_results_can_be_copied_and_pickled(lake: Run, empty: Path) -> None:
    results = [
        deeptaxi.evaluate(lake, episodes=2),
        deeptaxi.diagnose(lake),
        deeptaxi.solve("FrozenLake-v1"),
        deeptaxi.explain.update(lake, state=0, action=1),
        deeptaxi.explain.gradients(gradient=[0, 8, 0, 0]),
        deeptaxi.export(lake, "npz", "q.npz"),
        lake.report("page.html"),
        lake.history,
        lake.environment,
    ]
    for result in results:
        for other in (pickled(result), copy.deepcopy(result)):
            assert (type(other), str(other)) == (type(result), str(result))


@pytest.mark.slow
def test_a_pickled_run_is_read_by_another_process(kept: Run, tmp_path: Path) -> None:
    (tmp_path / "run.pickle").write_bytes(pickle.dumps(kept))
    code = "import pickle, sys; run = pickle.load(open(sys.argv[1], 'rb')); print(run.weights_digest, run.optimal)"
    words = [sys.executable, "-c", code, tmp_path / "run.pickle"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == ([kept.weights_digest, str(kept.optimal)], "")


def test_a_run_acts(lake: Run) -> None:
    assert lake.act(14) == 2  # right, to the goal
    assert isinstance(lake.act(np.int64(14)), int)
    assert lake.act([[14, 14]]).tolist() == [[2, 2]]
    for nowhere in (16, -1, [0, 16], 1.5, "14"):
        with pytest.raises(UsageError, match="from 0 to 15"):
            lake.act(nowhere)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def blackjack() -> Run:
    """A network that nobody trained, on observations of three parts."""
    from deeptaxi.api.load import as_run

    network = build_q_network(704, 2)
    network.set_weights([np.random.default_rng(0).normal(size=(704, 2))])
    return as_run(network, EnvSpec("Blackjack-v1"))


def test_an_observation_of_several_parts_is_one_state(blackjack: Run) -> None:
    for observation in ((20, 5, 1), (20, 5, True), (np.int64(20), 5, np.int8(1))):
        action = blackjack.act(observation)  # type: ignore[arg-type]
        assert isinstance(action, int)
        assert action == blackjack.policy[451]  # (20·11 + 5)·2 + 1
    assert blackjack.act(451) == blackjack.policy[451]
    assert blackjack.act([451, 12]).tolist() == blackjack.policy[[451, 12]].tolist()
    assert blackjack.act(np.array([40, 5, 1])).tolist() == blackjack.policy[[40, 5, 1]].tolist()  # 40 is no first part


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ((32, 5, 1), r"the observation \(32, 5, 1\), whose part \[0\] is 32: expected an integer from 0 to 31"),
        ((2, 3), r"the observation \(2, 3\): expected a tuple of 3 values"),
        ((20.0, 5, 1), "is 20.0: expected an integer from 0 to 31"),
        ([20, 5, 1], r"\[20, 5, 1\] could be one observation or 3 state numbers: pass tuple\(observation\)"),
        (np.array([20, 5, 1]), "could be one observation or 3 state numbers"),
        ([20, 5, True, 704], "state .*: expected whole numbers from 0 to 703, or an observation of Tuple"),
        ([[1, 2], [3]], "expected whole numbers from 0 to 703"),
        (True, "state True: expected whole numbers"),
    ],
)
def test_invalid_and_ambiguous_observations_are_refused(blackjack: Run, state: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        blackjack.act(state)


def test_a_tuple_is_a_batch_where_states_are_numbers(lake: Run) -> None:
    assert lake.act((14, 14)).tolist() == [2, 2]


def test_an_observation_is_accepted_neither_as_a_start_nor_for_an_explanation(blackjack: Run, lake: Run) -> None:
    with pytest.raises(UsageError, match=r"--state \(2, 3\): expected a state from 0 to 703"):
        blackjack.play(state=(2, 3))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"state \(2, 3\): expected a whole number"):
        deeptaxi.explain.update(lake, state=(2, 3))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"state \(2, 3\): expected a whole number"):
        deeptaxi.explain.update(lake, transitions=[((2, 3), 0, 0.0, 1)])
    with pytest.raises(UsageError, match=r"received .*'False'"):
        deeptaxi.explain.update(lake, transitions=[(2, 0, 0.0, 1, "False")])


@pytest.mark.parametrize(
    ("show", "said"),
    [
        ({"state": 16}, "--state 16: expected a state from 0 to 15"),
        ({"episodes": 0}, "episodes = 0: expected a whole number from 1"),
        ({"seed": -1}, "seed = -1: expected a whole number from 0"),
        ({"max_steps": 1.5}, "max_steps = 1.5: expected a whole number from 1"),
        ({"render_mode": "braille"}, "render_mode = 'braille': expected one of human, ansi, rgb_array"),
    ],
)
def test_episodes_that_cannot_be_played_are_refused_at_once(lake: Run, show: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        lake.play(**show)


def test_a_start_state_that_cannot_be_set_is_refused_at_once(blackjack: Run) -> None:
    with pytest.raises(UsageError, match="--state: Blackjack-v1 cannot be put into a state"):
        blackjack.play(state=3)


def test_a_run_shows_its_verdict_in_a_line_in_a_table_and_in_a_notebook(lake: Run) -> None:
    assert repr(lake).startswith(
        "Run(frozenlake-v1-q-table-0 on FrozenLake-v1 is_slippery=false: optimal: 1 of 1 start states; return 1"
    )
    assert "\n" not in repr(lake)
    shown = str(lake)
    assert "yes: 1 of 1 start states are played optimally" in shown
    assert "\x1b" not in shown
    assert all(line == line.rstrip() for line in shown.splitlines())
    html = lake._repr_html_()
    assert html.startswith("<pre")
    assert "played optimally" in html


def test_a_run_lists_its_attributes_one_per_line(lake: Run) -> None:
    assert repr(lake.environment) == "Environment(FrozenLake-v1: 16 states, 4 actions, time limit 100)"
    assert repr(lake.history).startswith("History(1 started, ")
    assert repr(lake.environment.table) == "TransitionTable(16 states, 4 actions, 1 outcome, 1 start state)"
    solution = deeptaxi.solve(lake.environment)
    assert repr(solution) == "Solution(return 1.0000 in 100 steps, value 0.9510 at discount 0.99; 16 states)"


def test_a_network_of_nan_is_reported_and_does_not_break_the_notebook() -> None:
    network = build_q_network(16, 4)
    network.set_weights([np.full((16, 4), np.nan)])
    run = deeptaxi.evaluate
    with pytest.raises(deeptaxi.DeepTaxiError, match="NaN"):
        run(network, "FrozenLake-v1")
    from deeptaxi.api.load import as_run

    assert "NaN" in repr(as_run(network, EnvSpec("FrozenLake-v1")))
    assert "NaN" in str(as_run(network, EnvSpec("FrozenLake-v1")))


def test_a_run_is_saved_like_a_training_with_out(lake: Run, empty: Path) -> None:
    assert lake.save("run") == Path("run")
    again = deeptaxi.load("run")
    assert again.weights_digest == lake.weights_digest
    assert again.config == lake.config
    assert again.exact == lake.exact
    assert again.coverage is not None
    assert lake.coverage is not None
    np.testing.assert_array_equal(again.coverage.visits, lake.coverage.visits)
    with pytest.raises(UsageError, match=r"run/model.keras exists"):
        lake.save("run")
    lake.save("run", force=True)
    assert again.save("copy") == Path("copy")  # a run that was loaded has all that it takes too
    assert command("diagnose", "copy").exit_code == 0


def test_a_table_goes_with_every_copy(kept: Run, empty: Path) -> None:
    kept.save("copy")
    assert deeptaxi.load("copy").exact == kept.exact
    assert Path("copy/table.npz").exists()
    assert Path("copy/config.toml").read_text(encoding="utf-8").count("copy/table.npz") == 1


def test_a_run_without_a_configuration_cannot_be_saved(empty: Path) -> None:
    from deeptaxi.api.load import as_run

    with pytest.raises(UsageError, match="export"):
        as_run(build_q_network(16, 4), EnvSpec("FrozenLake-v1")).save("run")
    assert not list(empty.iterdir())


def test_a_run_plays_episodes_and_renders_them(lake: Run, empty: Path) -> None:
    episode_steps = list(lake.play(episodes=2, seed=1, render_mode="ansi"))
    assert all(isinstance(step, EpisodeStep) for step in episode_steps)
    assert [step.ending for step in episode_steps if step.ending] == ["terminated"] * 2
    assert episode_steps[0].optimal is not None
    assert "FFF" in episode_steps[0].frame
    assert len(list(lake.play(state=14))) == 2
    lake.film("lake.gif", speed=10)
    assert Path("lake.gif").read_bytes().startswith(b"GIF")
    filmed = list(lake.film("lake.gif", seed=1, force=True))
    assert [step.state for step in filmed] == [step.state for step in lake.play(seed=1)]
    assert {step.frame is None for step in filmed} == {True}
    with pytest.raises(UsageError, match="exists"):
        lake.film("lake.gif")
    with pytest.raises(UsageError, match=r"\.gif"):
        lake.film("lake.png")


def test_a_run_writes_a_report_without_a_folder(lake: Run, kept: Run, empty: Path) -> None:
    made = lake.report("lake.html")
    page = Path("lake.html").read_text(encoding="utf-8")
    assert "Optimal" in page
    assert made.to_dict()["report"] == "lake.html"
    assert {"verdict", "curves", "visits", "findings"} <= set(made.sections)
    assert not made.remarks
    with pytest.raises(UsageError, match="exists"):
        lake.report("lake.html")
    with pytest.raises(UsageError, match="has the environment"):
        lake.report("both.html", beside=[kept])
    assert kept.report("kept.html", beside=[deeptaxi.load(kept.folder or "")]).runs == (kept.name, kept.name)
    assert sorted(path.name for path in empty.iterdir()) == ["kept.html", "lake.html"]


def test_a_network_of_keras_own_layers_can_be_evaluated() -> None:
    network = keras.Sequential([keras.Input((16,)), keras.layers.Dense(4)])
    found = deeptaxi.evaluate(network, "FrozenLake-v1", episodes=0)
    assert found.exact is not None
    assert found.optimal is False
    with pytest.raises(UsageError, match="cannot inspect"):
        deeptaxi.evaluate(network, "Taxi-v4")
    with pytest.raises(UsageError, match="pass its environment"):
        deeptaxi.evaluate(network)
    with pytest.raises(UsageError, match="received an object of type dict"):
        deeptaxi.evaluate({}, "FrozenLake-v1")
