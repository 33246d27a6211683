from __future__ import annotations

import re
import threading
import time
from collections import Counter

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text import blackjack
from gymnasium.spaces import Discrete, MultiDiscrete, Tuple
from gymnasium.wrappers import TimeLimit

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import EnvironmentFailedError
from deeptaxi.evaluation.solution import solve
from deeptaxi.mdp import planning
from deeptaxi.mdp.chance import NotDiscoverableError
from deeptaxi.mdp.discovery import QUICK, discover, discover_table, with_discovered
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.planning import reachable
from deeptaxi.mdp.walk import Limits, Walk
from tests.boards import Picture
from tests.mdp.blackjack import BOOK, CARDS, NATURAL, by_the_rules
from tests.problems import opened, registered


def rows(table, state, action):
    """Return the outcomes of a pair with their probabilities."""
    found = Counter()
    for k in np.flatnonzero(table.probability[state, action]):
        at = (state, action, k)
        found[int(table.next_state[at]), float(table.reward[at]), bool(table.terminated[at])] += table.probability[at]
    return found


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("FrozenLake-v1", {}),
        ("FrozenLake-v1", {"is_slippery": False, "map_name": "8x8"}),
        ("CliffWalking-v1", {}),
        ("CliffWalkingSlippery-v1", {}),
        ("Taxi-v4", {}),
        ("Taxi-v4", {"is_rainy": True}),
    ],
)
def test_a_discovered_table_is_the_environments_own_in_every_probability(name, kwargs):
    environment = opened(name, **kwargs)
    own, found = environment.table, discover(environment, Limits())
    visited = np.flatnonzero(reachable(own, None))
    assert found.hidden is None
    assert found.states == len(visited)
    np.testing.assert_allclose(found.table.start, own.start, atol=1e-12)
    for state in visited:
        for action in range(own.actions):
            expected, actual = rows(own, state, action), rows(found.table, state, action)
            assert actual.keys() == expected.keys()
            assert all(actual[key] == pytest.approx(expected[key], abs=1e-12) for key in expected)


class Grid(gymnasium.Env):
    """Go to a goal; both places are drawn, the goal again until it is elsewhere. It keeps much that nobody needs."""

    action_space = Discrete(4)

    def __init__(self, size=3, limit=None, space=MultiDiscrete):
        self.size, self.limit, self.space = size, limit, space
        self.observation_space = MultiDiscrete([size] * 4)
        self.ways = [np.array(way) for way in ((1, 0), (0, 1), (-1, 0), (0, -1))]

    def look(self):
        return np.concatenate([self.me, self.goal])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.total, self.trace = 0, 0.0, []
        self.me = self.goal = self.np_random.integers(0, self.size, 2)
        while (self.goal == self.me).all():
            self.goal = self.np_random.integers(0, self.size, 2)
        return self.look(), {}

    def step(self, action):
        self.steps += 1
        self.trace.append((action, self.steps))
        self.me = np.clip(self.me + self.ways[action], 0, self.size - 1)
        there = bool((self.me == self.goal).all())
        self.total += there
        return self.look(), there, there, self.limit is not None and self.steps >= self.limit, {}


def explored(cls, limits=QUICK, **kwargs):
    """Discover the table of a class of environments."""
    with registered("Found-v0", cls) as name:
        return discover(open_environment(EnvironmentConfig(name, kwargs)), limits)


def test_a_grid_is_walked_through_and_what_changes_nothing_is_left_out():
    found = explored(Grid)
    assert (found.states, found.snapshots, found.hidden, found.time_limit) == (72, 72, None, None)  # 9 · 8
    assert {"steps", "trace"} <= set(", ".join(found.ignored).split(", "))
    assert found.table.factors == (3, 3, 3, 3)
    assert found.table.start[found.table.start > 0] == pytest.approx(np.full(72, 1 / 72))
    assert solve(found.table, 100, 1.0).optimal_return == pytest.approx(1)


def test_a_time_limit_cuts_the_episode_and_never_the_bootstrap():
    assert explored(Grid, limit=10).time_limit == 10
    inside = explored(lambda: TimeLimit(Grid(), 12))
    assert inside.time_limit == 12
    for found in (explored(Grid, limit=10), inside):
        assert found.states == 72
        assert found.table.time_limit == found.time_limit
        assert (found.table.terminated == (found.table.reward == 1)).all() or found.table.terminated.any()


class TruncatedGoal(Grid):
    """The goal ends an episode by `truncated`, which a table would take for a state that continues."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, False, terminated or truncated, info


@pytest.mark.parametrize("cls", [TruncatedGoal, lambda: TimeLimit(TruncatedGoal(), 50)])
def test_a_place_that_truncates_is_no_time_limit_also_beside_one(cls):
    with pytest.raises(NotDiscoverableError, match=r"once after 1 steps, once after .* is a termination"):
        explored(cls)


class FarGoal(gymnasium.Env):
    """A walk of ten steps, each of which may lead back to its start; the end truncates, which chance seldom sees."""

    observation_space, action_space = Discrete(11), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return 0, {}

    def step(self, action):
        self.at = min(self.at + 1, 10) if action else 0
        return self.at, 1.0, False, self.at == 10, {}


def test_one_episode_that_was_truncated_is_no_limit_where_others_last_longer():
    with pytest.raises(NotDiscoverableError, match=r"is a termination|do not show after how many steps"):
        explored(FarGoal)


def test_of_two_limits_the_shorter_one_ends_episodes():
    assert explored(lambda: TimeLimit(Grid(limit=10), 12)).time_limit == 10
    assert explored(lambda: TimeLimit(Grid(limit=10), 8)).time_limit == 8


class Small(gymnasium.Env):
    """A short way; `go` decides whether a step gets on."""

    observation_space, action_space = Discrete(4), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = 0, 0
        return 0, {}

    def go(self, action):
        return action == 1

    def step(self, action):
        self.steps += 1
        self.place = min(self.place + bool(self.go(action)), 3)
        return self.place, float(self.place == 3), self.place == 3, False, {}


def small(go):
    """Return a class whose steps get on by this rule."""
    return type("Ruled", (Small,), {"go": go})


def reject_for_ever(generator):
    """Reject 200,000 draws, more than a walk follows; without an end, the real environment would hang."""
    for _ in range(200_000):
        if generator.random() >= 2:
            return


def test_a_continuous_reward_is_refused_by_the_name_of_its_draw():
    class Drawn(Small):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, self.np_random.random(), *rest

    with pytest.raises(NotDiscoverableError, match=r"its chance is not finite: it draws from random\(\)"):
        explored(Drawn)


def test_a_coin_in_every_step():
    found = explored(small(lambda self, action: self.np_random.random() < (0.25 if action else 0.5)))
    assert rows(found.table, 0, 1) == pytest.approx({(1, 0.0, False): 0.25, (0, 0.0, False): 0.75})
    assert rows(found.table, 2, 0) == pytest.approx({(3, 1.0, True): 0.5, (2, 0.0, False): 0.5})
    assert rows(found.table, 3, 0) == {(3, 0.0, True): 1.0}  # no action is taken there


@pytest.mark.parametrize(
    ("go", "reason"),
    [
        (lambda self, _: self.np_random.normal() > 0, "its chance is not finite: it draws from normal()"),
        (lambda self, _: float(self.np_random.random()) > 0.5, "it draws from random()"),
        (lambda self, _: f"{self.np_random.random():.3f}" > "0.5", "it draws from random()"),
        (lambda self, _: reject_for_ever(self.np_random), "its draws do not end: there were 100,000 in one step"),
        (lambda self, _: self.np_random.integers(2**40) > 5, "integers() draws one of 1,099,511,627,776 numbers"),
    ],
)
def test_what_cannot_be_enumerated_is_refused_by_name(go, reason):
    with pytest.raises(NotDiscoverableError) as error:
        explored(small(go))
    assert reason in str(error.value)


def test_a_hidden_count_is_found_out():
    found = explored(small(lambda self, _: self.steps > 3))
    assert (
        "its observation state 0 (state 0) hides something: a start there and a start in state 0, then action 0 have"
        in found.hidden
    )
    assert "(steps=0 and steps=1)" in found.hidden
    assert found.split == 3  # the place 0 is shown after 0, 1, 2 and 3 steps
    assert found.table.factors == (4, 4)


def test_the_fickle_passenger_of_taxi_is_found_out_and_its_flag_named():
    found = discover(opened("Taxi-v4", fickle_passenger=True), Limits())
    assert "(fickle_step=True and fickle_step=False)" in found.hidden


def test_where_something_is_hidden_there_is_no_table_of_the_observations():
    with registered("Found-v0", small(lambda self, _: self.steps > 3)) as name:
        environment = open_environment(EnvironmentConfig(name))
        with pytest.raises(NotDiscoverableError, match="hides something"):
            discover_table(environment, Limits())


class Dealt(gymnasium.Env):
    """A card face up and one face down, of two ranks each; action 0 bets that they are equal, action 1 passes."""

    observation_space, action_space = Tuple((Discrete(2), Discrete(2))), Discrete(2)
    peek = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.up, self.down = (int(self.np_random.choice([0, 0, 1])) for _ in range(2))
        self.looked = 0
        return (self.up, 0), {}

    def step(self, action):
        if action == 0:
            return (self.up, self.looked), 1.0 if self.up == self.down else -1.0, True, False, {}
        self.looked = 1
        return (self.up, 1), 0.5 * self.down * self.peek, False, False, {}


def test_what_is_hidden_and_independent_of_the_history_is_averaged():
    found = explored(Dealt)
    assert (found.hidden, found.states) == (None, 4)
    assert rows(found.table, 0, 0) == pytest.approx({(0, 1.0, True): 2 / 3, (0, -1.0, True): 1 / 3})
    assert rows(found.table, 3, 0) == pytest.approx({(3, 1.0, True): 1 / 3, (3, -1.0, True): 2 / 3})


def test_a_reward_that_tells_of_what_is_hidden_makes_another_state():
    found = explored(type("Peeked", (Dealt,), {"peek": True}))
    assert "hides something" in found.hidden
    assert found.policy_needs_hidden  # to bet or not after a look is for the reward to tell
    # A stake of nothing until it is known: 2/3 · 2/3 + 1/3 · 1/3 of the bets on equal cards are won for certain.
    assert found.table.factors == (2, 2, 2)


class Locked(Small):
    def __init__(self):
        self.guard = threading.Lock()


def test_an_environment_that_cannot_be_copied_is_refused_with_the_attribute():
    with pytest.raises(
        NotDiscoverableError, match=r"it cannot be copied: its attribute Locked.guard holds an object of _thread.lock"
    ):
        explored(Locked)


class Late(Small):
    """Gets on at every second try; its 15,000th step is worth more."""

    def reset(self, **arguments):
        self.odd = False
        return super().reset(**arguments)

    def go(self, action):
        self.odd = not self.odd
        return action == 1 and not self.odd

    def step(self, action):
        self.total = getattr(self, "total", 0) + 1
        place, reward, *more = super().step(action)
        return place, reward + 7 * (self.total == 15_000), *more


def test_a_contradiction_names_observations_and_histories_and_no_state_that_only_the_table_has():
    with pytest.raises(NotDiscoverableError) as refused:
        explored(Late, Limits(states=400))
    assert re.search(
        r"impossible what it did: state [0-3], history [12], action [01] gave state [0-3], history [12], reward [78],",
        str(refused.value),
    )


class Pair(str):
    """A text that is made of two: its copy would be made of one."""

    def __new__(cls, one, other):
        return super().__new__(cls, one + other)


class Paired(Small):
    def reset(self, **arguments):
        self.pair = Pair("a", str(len(getattr(self, "pair", ""))))
        return super().reset(**arguments)


def test_an_environment_whose_copy_cannot_be_made_is_refused_and_not_blamed():
    with pytest.raises(NotDiscoverableError, match=r"^it cannot be copied: TypeError: .*missing 1 required positional"):
        explored(Paired)


class Sealed(Locked):
    """Keeps its place where no copy gets at it, and hands it out by its own methods."""

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        self.vault = {"lock": threading.Lock(), "place": 0}
        return observation, info

    def get_state(self):
        return self.vault["place"]

    def set_state(self, place):
        self.vault = {"lock": threading.Lock(), "place": place}

    def step(self, action):
        self.vault["place"] = min(self.vault["place"] + action, 3)
        place = self.vault["place"]
        return place, float(place == 3), place == 3, False, {}


def test_an_environment_may_put_itself_back():
    with pytest.raises(NotDiscoverableError, match=r"its attribute Mute\.guard holds"):
        explored(type("Mute", (Sealed,), {"get_state": None}))
    found = explored(Sealed)
    assert (found.states, found.hidden) == (3, None)
    assert rows(found.table, 1, 1) == {(2, 0.0, False): 1.0}


class Wide(gymnasium.Env):
    """Wanders over a million places."""

    observation_space, action_space = Discrete(1_000_000), Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return 0, {}

    def step(self, action):
        self.place = (3 * self.place + action + 1) % 1_000_000
        return self.place, 0.0, False, False, {}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(states=500), r"its limit of 500 states: it had seen 501 states, \d+ of them with every action"),
        (Limits(branches=2_000), r"its limit of 2,000 branches .*it had seen \d+ states"),
        (Limits(seconds=0.001), r"its limit of 0.001 seconds: it had seen"),
    ],
)
def test_a_limit_is_told_with_what_was_seen(limits, reason):
    with pytest.raises(NotDiscoverableError, match=reason):
        explored(Wide, limits)


class Slow(Wide):
    """Waits in every step, as for a drawing."""

    def step(self, action):
        time.sleep(0.01)
        return super().step(action)


def test_waiting_ends_a_walk_too():
    with pytest.raises(NotDiscoverableError, match=r"its limit of 0.1 seconds: it had seen \d+ states"):
        explored(Slow, Limits(seconds=0.1))


def test_the_seconds_of_a_walk_are_not_those_that_other_work_on_the_machine_takes():
    walk = Walk(opened("FrozenLake-v1"), Limits(), print)
    before = walk.seconds
    time.sleep(0.2)
    assert walk.seconds - before < 0.1


class Shared(Small):
    """Two names for one list, a class of its own inside, and a wrapper with a memory."""

    class Piece:
        def __init__(self):
            self.at = [0]

    def reset(self, *, seed=None, options=None):
        self.piece = self.Piece()
        self.alias = self.piece.at
        return super().reset(seed=seed)

    def step(self, action):
        self.alias[0] += action
        self.place = min(self.piece.at[0], 3)
        return self.place, float(self.place == 3), self.place == 3, False, {}


def test_attributes_that_share_an_object_are_kept_together():
    found = explored(Shared)
    assert found.states == 3
    assert rows(found.table, 1, 1) == {(2, 0.0, False): 1.0}


class Twice(gymnasium.Wrapper):
    """Rewards every other step double: its memory is a part of the state."""

    def reset(self, **arguments):
        self.odd = False
        return super().reset(**arguments)

    def step(self, action):
        self.odd = not self.odd
        observation, reward, *rest = super().step(action)
        return observation, reward * (1 + self.odd), *rest


def test_wrappers_have_a_state_too():
    found = explored(lambda: Twice(Small()))
    assert "odd=" in found.hidden


class Grows(Small):
    """Its resets go on from what was before."""

    def reset(self, *, seed=None, options=None):
        self.runs = getattr(self, "runs", 0) + 1
        super().reset(seed=seed)
        self.place = self.runs % 3
        return self.place, {}


def test_resets_that_depend_on_the_episode_before_are_refused():
    with pytest.raises(NotDiscoverableError, match="its resets depend on the episode before: on runs="):
        explored(Grows)


def test_an_environment_that_fails_on_the_way_is_blamed_as_ever():
    def fail(self, action):
        if self.place == 2:
            raise ZeroDivisionError("here")
        return action

    with pytest.raises(EnvironmentFailedError, match="the environment Found-v0 failed: ZeroDivisionError: here"):
        explored(small(fail))


def test_an_environment_that_fails_where_nobody_may_come_still_opens():
    def fail(self, action):
        return action if self.place < 2 else 1 / 0

    with registered("Found-v0", small(fail)) as name:
        environment = with_discovered(open_environment(EnvironmentConfig(name)))
    assert "none was discovered: the environment Found-v0 failed: ZeroDivisionError" in environment.table_missing


def test_an_environment_gets_its_table_or_the_reason_why_not():
    with registered("Found-v0", Grid) as name:
        environment = with_discovered(open_environment(EnvironmentConfig(name, {"limit": 10})))
    assert (environment.discovered, environment.table_missing, environment.time_limit) == (72, None, 10)
    assert environment.describe()["discovered"] == 72
    blackjack = opened("Blackjack-v1")
    without = with_discovered(blackjack)
    assert without.table is None
    assert without.table_missing.startswith(f"{blackjack.table_missing}, and none was discovered: the walk")


FEW_CARDS = (1, 4, 7, 10, 10)  # with all of them, `python -m tests.mdp.blackjack` takes two minutes


@pytest.mark.parametrize(("natural", "value", "naturals"), [(False, BOOK, 0), (True, NATURAL, 10)])
def test_the_rules_of_blackjack_give_the_values_of_the_book(natural, value, naturals):
    rules = by_the_rules(CARDS, natural)
    assert tuple(blackjack.deck) == CARDS
    assert (len(rules.states), len(rules.starts), len(rules.naturals)) == (280, 270, naturals)
    assert rules.value == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("natural", [False, True])
def test_blackjack_is_discovered_as_its_rules_have_it(natural, monkeypatch):
    monkeypatch.setattr(blackjack, "deck", list(FEW_CARDS))
    environment, rules = opened("Blackjack-v1", sab=False, natural=natural), by_the_rules(FEW_CARDS, natural)
    found = discover(environment, Limits())
    # Of the dealer's two cards one is hidden, and no history tells of it: it is averaged over. What a natural pays is
    # hidden too, by a sum that other hands have; that makes a state of its own.
    assert (found.hidden is None) is not natural
    assert (found.split, found.policy_needs_hidden) == (len(rules.naturals), False)
    assert found.states == len(rules.states) + found.split
    assert found.snapshots == 4 * found.states  # of the hands only the sums count, and there are four cards to hide
    optimum = solve(found.table, environment.horizon, 1.0)
    assert optimum.optimal_value == pytest.approx(rules.value, abs=1e-12)
    assert optimum.start_states == len(rules.starts)


class Shuffled(Small):
    """A deck of cards in an order of its own in each episode."""

    def reset(self, *, seed=None, options=None):
        answer = super().reset(seed=seed)
        self.deck = list(range(20))
        self.np_random.shuffle(self.deck)
        return answer


def test_a_reset_whose_every_outcome_is_too_rare_ends_the_walk():
    with pytest.raises(
        NotDiscoverableError, match=r"too wide: all that reset\(\) draws was rarer than 1e-12 in 1,000 of"
    ):
        explored(Shuffled)


class PassesOn:
    """Passes on what it is asked for, and so recurs without end while it is empty, as `pickle` makes it."""

    def __init__(self, array):
        self.array = array

    def __getattr__(self, name):
        return getattr(self.array, name)


class Wrapped(Small):
    """Its place is an array in an object that passes on attributes."""

    def reset(self, *, seed=None, options=None):
        answer = super().reset(seed=seed)
        self.kept = PassesOn(np.zeros(2, int))
        return answer

    def step(self, action):
        self.kept.array[0] += action
        self.place = min(int(self.kept.array[0]), 3)
        return self.place, float(self.place == 3), self.place == 3, False, {}


def test_an_object_that_passes_on_attributes_is_copied():
    found = explored(Wrapped)
    assert (found.states, found.snapshots) == (3, 3)  # the fourth ends the episode


def test_of_a_huge_space_the_table_has_what_occurs():
    with registered("Picture-v0", lambda: Picture(3)) as name:
        found = with_discovered(open_environment(EnvironmentConfig(name)))
    assert found.table is not None
    assert (found.states, found.discovered) == (9, 8)
    assert found.numbering_note.endswith("combinations of observations: the 9 of its discovered table are numbered")
    cells = {found.codec.encode(found.codec.decode(state)): state for state in range(9)}
    assert cells == {state: state for state in range(9)}
    # In the order of the space, the picture whose last pixel is bright comes first: state 8 − c is cell c.
    assert found.table.start.tolist() == [0.0] * 8 + [1.0]
    for cell in range(8):
        row, column = divmod(cell, 3)
        moves = (
            (min(row + 1, 2), column),
            (max(row - 1, 0), column),
            (row, min(column + 1, 2)),
            (row, max(column - 1, 0)),
        )
        for action, (down, right) in enumerate(moves):
            reached = 3 * down + right
            ends = reached == 8
            assert rows(found.table, 8 - cell, action) == {(8 - reached, 1.0 if ends else -0.1, ends): 1.0}
    assert found.table.state_names is not None
    assert found.table.state_names[8] == "(255, 0, 0, 0, 0, 0, 0, 0, 0)"
    assert planning.value_iteration(found.table, 1.0, None).value[8] == pytest.approx(0.7)


def test_the_numbers_of_a_huge_space_do_not_depend_on_the_walk():
    class Shuffled(Picture):
        def step(self, action):
            return super().step(3 - int(action))

    digests = set()
    for env in (Picture, Shuffled):
        with registered("Picture-v0", env) as name:
            digests.add(with_discovered(open_environment(EnvironmentConfig(name))).numbering.digest)
    assert len(digests) == 1


class Hiding(Picture):
    """It ends at the second visit of a corner, which the picture does not tell."""

    def reset(self, **arguments):
        self.visits = 0
        return super().reset(**arguments)

    def step(self, action):
        pixels, reward, _, _, info = super().step(action)
        self.visits += self.cell == (0, 2) and self.visits < 2
        return pixels, reward, self.visits == 2, False, info


def test_what_a_huge_space_hides_is_told_without_numbers_of_the_walk():
    with registered("Hiding-v0", Hiding) as name:
        found = with_discovered(open_environment(EnvironmentConfig(name)))
    assert found.table is None
    assert found.states == 100_000
    assert "its observation (0, 0, 0, 0, 0, 255, 0, 0, 0) hides something: a start in (255, 0" in found.table_missing


class Rare(Picture):
    """Its 19,000th step shows a black picture."""

    def step(self, action):
        answer = super().step(action)
        self.count = getattr(self, "count", 0) + 1
        return (np.zeros((3, 3), np.uint8), *answer[1:]) if self.count == 19_000 else answer


def test_an_observation_that_the_walk_did_not_meet_contradicts_its_table():
    with registered("Rare-v0", Rare) as name:
        found = with_discovered(open_environment(EnvironmentConfig(name)))
    assert found.table is None
    assert "expected one of the 9 of its discovered table" in found.table_missing
    assert found.states == 100_000
