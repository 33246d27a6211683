"""Small decision processes whose answers are known by hand, and the environments that the tests share."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from deeptaxi.config import EnvironmentConfig
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.simulate import TableEnv
from deeptaxi.mdp.table import from_arrays, from_rows

# Two states, one action, two outcomes: state 0 ends in one of four times, else it goes to state 1, which ends.
SOUND = {
    "probability": [[[0.25, 0.75]], [[1.0, 0.0]]],
    "next_state": [[[0, 1]], [[1, 0]]],
    "reward": [[[8.0, 4.0]], [[-1.0, 0.0]]],
    "terminated": [[[True, False]], [[True, True]]],
    "start": [0.5, 0.5],
}


def build(p, start=0, **optional):
    """Build a table from ``p[state][action] = rows``; `start` is a state or a distribution."""
    return from_rows(p, np.eye(len(p))[start] if isinstance(start, int) else start, **optional)


def surely(next_state, reward, terminated=False):
    """The rows of an action with one outcome."""
    return [(1.0, next_state, reward, terminated)]


def chain(start=0, **optional):
    """0 → 1 → 2 → end: action 0 goes on and earns 1 on the last step, action 1 stays and earns nothing."""
    return build(
        [
            [surely(1, 0), surely(0, 0)],
            [surely(2, 0), surely(1, 0)],
            [surely(2, 1, True), surely(2, 0)],
        ],
        start,
        **optional,
    )


def bandit(**optional):
    """One choice, then the end: arm 0 pays 1, arm 1 pays 3 or nothing by a fair coin (1.5 in the mean)."""
    return build([[surely(0, 1, True), [(0.5, 0, 3, True), (0.5, 0, 0, True)]]], **optional)


def loop(reward, **optional):
    """One state, one action, the same reward forever."""
    return build([[surely(0, reward)]], **optional)


def geometric(p):
    """One state, one action: every step earns 1 and ends with probability `p`."""
    return build([[[(p, 0, 1, True), (1 - p, 0, 1, False)]]])


def stay_or_leave(**optional):
    """Action 0 stays and earns 1, action 1 ends and earns 3: best to leave on the very last step."""
    return build([[surely(0, 1), surely(0, 3, True)]], **optional)


def two_lengths(long=100):
    """Episodes of 1 step that return 0 or, equally often, of `long` steps that return 1. One action."""
    waiting = [[surely(state + 1, 0)] for state in range(1, long)]
    start = np.zeros(long + 1)
    start[:2] = 0.5
    return build([[surely(0, 0, True)], *waiting, [surely(0, 1, True)]], start)


def river_swim():
    """RiverSwim (Strehl and Littman, 2008): action 0 drifts left, action 1 swims right; episodes never end."""
    swim = [[(0.4, 0, 0, False), (0.6, 1, 0, False)]]
    swim += [[(0.05, s - 1, 0, False), (0.6, s, 0, False), (0.35, s + 1, 0, False)] for s in range(1, 5)]
    swim += [[(0.4, 4, 0, False), (0.6, 5, 10_000, False)]]
    drift = [surely(max(s - 1, 0), 5 if s == 0 else 0) for s in range(6)]
    return build(list(zip(drift, swim, strict=True)), [0, 0.5, 0.5, 0, 0, 0])


def gambler(masked=True, heads=0.4):
    """The gambler's problem (Sutton & Barto, 2018, example 4.3): capital 0 … 100, stakes up to 50, no discount.

    Without the mask, a stake that is not allowed is a stake of nothing.
    """
    rows, mask = [], np.zeros((101, 51), bool)
    for capital in range(101):
        row = []
        for stake in range(51):
            allowed = 1 <= stake <= min(capital, 100 - capital)
            mask[capital, stake] = allowed or (capital in (0, 100) and stake == 0)
            won, lost = (capital + stake, capital - stake) if allowed else (capital, capital)
            row.append(
                [(heads, won, float(allowed and won == 100), won in (0, 100)), (1 - heads, lost, 0, lost in (0, 100))]
            )
        rows.append(row)
    start = np.zeros(101)
    start[1:100] = 1 / 99
    return build(rows, start, discount=1.0, action_mask=mask if masked else None)


def random_table(seed, states=4, actions=3, outcomes=2, **optional):
    """Draw a table from a seed: every outcome has a reward of its own, and about one in five ends the episode."""
    rng = np.random.default_rng(seed)
    shape = (states, actions, outcomes)
    return from_arrays(
        rng.dirichlet(np.ones(outcomes), shape[:2]),
        rng.integers(0, states, shape),
        rng.normal(size=shape),
        rng.random(shape) < 0.2,
        rng.dirichlet(np.ones(states)),
        **optional,
    )


def rows_of(table):
    """Write a table as the ``P`` that Gymnasium's environments carry."""
    columns = (table.probability, table.next_state, table.reward, table.terminated)
    return {
        s: {
            a: [tuple(column[s, a, k].item() for column in columns) for k in range(table.probability.shape[2])]
            for a in range(table.actions)
        }
        for s in range(table.states)
    }


def two_jobs(start, levels=8, tools=3):
    """Two jobs of 0 … `levels` − 1 steps to go; action 3·j + t takes the next step of job j by tool t.

    A step takes 1 by the one tool that is made for it, else 2; a finished job takes 2 and goes no further. The end is
    where both are done. So the better tools are known of each job by itself, and the steps to go only ever fall.

    Args:
        start: function from the steps to go, two arrays, to whether episodes may start there.
        levels: of each job.
        tools: of each job.
    """
    rows = []
    for jobs in np.ndindex(levels, levels):
        row = []
        for job, tool in np.ndindex(2, tools):
            after = tuple(max(steps - (job == number), 0) for number, steps in enumerate(jobs))
            made_for_it = jobs[job] > 0 and tool == ((job + 1) * jobs[job] + job) % tools
            row.append(surely(after[0] * levels + after[1], -1 if made_for_it else -2, after == (0, 0)))
        rows.append(row)
    first = start(*np.indices((levels, levels)).reshape(2, -1)).astype(float)
    return build(rows, first / first.sum(), factors=(levels, levels), time_limit=50)


class ToldEnv(TableEnv):
    """Plays one table and tells `p` and `start` as its own; `start` None tells no start distribution."""

    def __init__(self, table, p, start=None, render_mode=None):
        super().__init__(table, render_mode)
        self.P = p
        if start is not None:
            self.initial_state_distrib = start


class Numbered(ToldEnv):
    """The chain, observed as 5, 6, 7, played by actions 2 and 3, its P keyed by observations."""

    def __init__(self, render_mode=None):
        p = {
            s + 5: {a: [(q, t + 5, *rest) for q, t, *rest in rows] for a, rows in actions.items()}
            for s, actions in rows_of(chain()).items()
        }
        super().__init__(chain(), p, chain().start, render_mode)
        self.observation_space, self.action_space = Discrete(3, start=5), Discrete(2, start=2)

    def reset(self, **arguments):
        state, info = super().reset(**arguments)
        return state + 5, info

    def step(self, action):
        assert self.action_space.contains(action)
        state, *rest = super().step(action - 2)
        return state + 5, *rest


@contextmanager
def registered(name, entry_point):
    """Register an environment under an id, as a user's package does."""
    gymnasium.register(name, entry_point)
    try:
        yield name
    finally:
        del gymnasium.registry[name]


@cache
def opened(name, time_limit=None, **kwargs):
    """Open a Gymnasium environment once for all tests."""
    return open_environment(EnvironmentConfig(name, kwargs, time_limit))
