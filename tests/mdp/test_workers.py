from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest

from deeptaxi.api.environments import EnvSpec
from deeptaxi.config import TrainConfig, merge, resolve
from deeptaxi.errors import EnvironmentFailedError, UsageError
from deeptaxi.mdp.workers import check_workers, open_copies
from tests.mdp.wanderer import NAME, Wanderer, list_imports
from tests.problems import opened

COPIES, SEEDS = 5, [3, 1, 4, 1, 5]


def actions_of(steps, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (steps, COPIES), np.int32)


def played(copies, actions):
    """Step copies; return all that they answer as plain values."""
    return [[None if part is None else plain(part) for part in copies.step_and_reset(row)] for row in actions]


def plain(part):
    return {name: value.tolist() for name, value in part.items()} if isinstance(part, dict) else part.tolist()


@pytest.fixture(scope="module")
def boards():
    """An environment whose observations are numbered as they are first seen, in a numbering of its own each time."""
    environment = opened(NAME, boards=True)

    def fresh():
        codec = environment.numbering.renew(growing=True)
        return environment.with_codec(codec)

    return fresh


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_what_one_process_does(workers):
    environment = opened(NAME)
    with (
        closing(open_copies(environment, COPIES, True, None)) as alone,
        closing(open_copies(environment, COPIES, True, workers)) as shared,
    ):
        assert [plain(part) for part in alone.begin(SEEDS)] == [plain(part) for part in shared.begin(SEEDS)]
        expected = played(alone, actions_of(40))
        assert played(shared, actions_of(40)) == expected
        ends = np.array([[row[2], row[3]] for row in expected]).any(axis=(0, 2))
        assert ends.tolist() == [True, True]  # some were terminated, some truncated
        saved = alone.save()
        assert shared.save() == saved
        with closing(open_copies(environment, COPIES, True, 3 - workers)) as resumed:  # with another number of workers
            resumed.begin(SEEDS)
            assert [found.generators for found in resumed.replay([episode for episode, _ in saved])] == [
                generators for _, generators in saved
            ]
            assert played(resumed, actions_of(20, 1)) == played(shared, actions_of(20, 1))
            state, shown = resumed.restart(3, saved[3].generators)
            other, other_shown = alone.restart(3, saved[3].generators)
            assert (state, plain(shown)) == (other, plain(other_shown))
        assert not shared.draws_from_process()
        now = shared.save()
    assert shared.save() == now  # also once it is closed


def test_observations_are_numbered_in_the_order_of_the_copies(boards):
    one, other = boards(), boards()
    with (
        closing(open_copies(one, COPIES, False, None)) as alone,
        closing(open_copies(other, COPIES, False, 2)) as shared,
    ):
        assert plain(alone.begin(SEEDS)[0]) == plain(shared.begin(SEEDS)[0])
        assert played(alone, actions_of(30)) == played(shared, actions_of(30))
        assert list(one.numbering.numbering) == list(other.numbering.numbering)
        assert len(one.numbering.numbering) > 5


def failure_of(environment, workers, steps=60):
    """Return the error that stepping all copies comes to."""
    with closing(open_copies(environment, COPIES, True, workers)) as copies:
        copies.begin(SEEDS)
        with pytest.raises(EnvironmentFailedError) as caught:
            played(copies, actions_of(steps))
    return str(caught.value)


def test_an_error_of_the_environment_is_the_same_line():
    error = failure_of(opened(NAME, fault="raise"), 2)
    assert "Wanderer failed: KeyError: 'no such place' (wanderer.py:" in error
    assert error.endswith(", in fail)")


@pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")
@pytest.mark.parametrize(
    ("fault", "how"), [("exit", "ended with exit code 3"), ("kill", "was killed by SIGKILL, as where memory runs out,")]
)
def test_a_worker_that_dies_is_reported_with_its_last_step(fault, how):
    error = failure_of(opened(NAME, fault=fault, at=2), 2)
    action = actions_of(2)[1][0] + 3
    assert f"failed: worker 1 of 2 {how} in step({action}) of environment 0, at step 2 of an episode" in error


@pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")
def test_a_worker_that_is_killed_while_it_waits_is_reported_too():
    with closing(open_copies(opened(NAME), COPIES, True, 2)) as copies:
        copies.begin(SEEDS)
        time.sleep(0.2)  # until it marks that it waits
        os.kill(copies._workers[1]._process.pid, signal.SIGTERM)  # which it ignores
        played(copies, actions_of(1))
        os.kill(copies._workers[1]._process.pid, signal.SIGKILL)
        with pytest.raises(EnvironmentFailedError, match=r"worker 2 of 2 was killed by SIGKILL, .* between two steps"):
            played(copies, actions_of(1))


def test_a_worker_that_hangs_is_ended():
    copies = open_copies(opened(NAME, fault="hang", at=2), 2, True, 2)
    processes = [worker._process for worker in copies._workers]
    copies.begin([0, 1])
    copies.step_and_reset(np.zeros(2, np.int32))
    for worker in copies._workers:
        worker.send(("step", ([0],)))
    copies._answered = False  # as when Ctrl-C comes while it waits for an answer
    start = time.monotonic()
    copies.close()
    assert time.monotonic() - start < 2
    assert all(process.poll() is not None for process in processes)


def test_a_worker_does_not_import_what_trains():
    environment = replace(opened(NAME), make=partial(list_imports, os.getpid()))
    with pytest.raises(
        EnvironmentFailedError, match=r"RuntimeError: imported: \[\] \(wanderer.py:\d+, in list_imports"
    ):
        open_copies(environment, 1, True, 1)


def test_draws_from_the_process_are_noticed():
    with closing(open_copies(opened(NAME, fault="chance", at=2), 2, True, 2)) as copies:
        copies.begin([0, 1])
        assert not copies.draws_from_process()
        for _ in range(2):
            copies.step_and_reset(np.zeros(2, np.int32))
        assert copies.draws_from_process()


def config_of(**settings):
    return resolve(merge({"loop": "gymnasium", "interaction": {"environments": 4, "workers": 2}}, settings))


def test_workers_that_cannot_be_used_are_refused():
    taxi = opened("Taxi-v4")
    check_workers(config_of(), taxi)
    check_workers(config_of(interaction={"workers": 0}), taxi)
    assert config_of(interaction={"workers": 0}).interaction == replace(TrainConfig().interaction, environments=4)
    with pytest.raises(UsageError, match=r"--workers 2: the compiled loop steps no environment.*--loop gymnasium"):
        check_workers(config_of(loop="compiled"), taxi)
    with pytest.raises(UsageError, match="--workers 9: there are 4 environments to step: at most --workers 4"):
        check_workers(config_of(interaction={"workers": 9}), taxi)


def test_what_cannot_be_pickled_is_refused_with_what_to_do():
    lock = threading.Lock()

    def make():
        with lock:
            return Wanderer()

    with pytest.raises(UsageError, match=r"cannot be sent to another process \(TypeError: .*lock.*module:Class, or"):
        check_workers(config_of(), EnvSpec(make, discover=False).open())


SCRIPT = """
from contextlib import closing
import gymnasium, numpy as np
from gymnasium.spaces import Discrete
from deeptaxi.api.environments import EnvSpec
from deeptaxi.mdp.workers import open_copies

class Own(gymnasium.Env):
    observation_space, action_space = Discrete(5), Discrete(2)
    def __init__(self, by=1):
        self.by = by
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(5))
        return self.state, {}
    def step(self, action):
        print("not an answer")
        self.state = (self.state + self.by) % 5
        return self.state, 0.0, False, False, {}

gymnasium.register("Own-v0", entry_point="__main__:Own", kwargs={"by": 2})
two = 2
for env in (Own, lambda: Own(two), Own(), "Own-v0"):
    with closing(open_copies(EnvSpec(env, discover=False).open(), 2, False, 2)) as copies:
        states, _ = copies.begin([0, 1])
        print((copies.step_and_reset(np.zeros(2, np.int32)).states - states) % 5)
"""


def test_a_script_needs_no_guard(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line != "not an answer"]  # of the environment in this process
    assert lines == ["[1 1]", "[2 2]", "[1 1]", "[2 2]"], done.stderr
    assert done.stderr.count("not an answer") == 8
    assert "Own-v0" not in gymnasium.registry
