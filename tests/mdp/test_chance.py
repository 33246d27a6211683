from __future__ import annotations

import math
import pickle
import random
from fractions import Fraction
from random import shuffle as bound_before

import numpy as np
import pytest
from gymnasium.envs.toy_text.utils import categorical_sample

from deeptaxi.mdp.chance import NotDiscoverableError, StandIns, Tape, enumerate_runs


def distribution(program):
    """Return the exact distribution of what a program returns, which takes the stand-ins."""
    tape = Tape()
    stand_ins = StandIns(tape)
    found = {}
    with stand_ins.everywhere():
        for probability, result in enumerate_runs(tape, lambda: program(stand_ins)):
            found[result] = found.get(result, 0.0) + probability
    return found


def is_close(found, expected):
    return found.keys() == expected.keys() and all(found[key] == pytest.approx(expected[key]) for key in expected)


def of_numpy(draw):
    return distribution(lambda s: draw(s.generator))


def test_two_dice():
    sums = of_numpy(lambda rng: int(rng.integers(1, 7) + rng.integers(1, 6, endpoint=True)))
    assert is_close(sums, {total: (6 - abs(total - 7)) / 36 for total in range(2, 13)})


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda rng: int(rng.choice([1, 2, 10, 10])), {1: 1 / 4, 2: 1 / 4, 10: 1 / 2}),
        (lambda rng: str(rng.choice(["a", "b"], p=[0.9, 0.1])), {"a": 0.9, "b": 0.1}),
        (lambda rng: int(rng.choice(3, p=[0.5, 0.0, 0.5])), {0: 0.5, 2: 0.5}),
        (lambda rng: tuple(rng.choice(2, size=2).tolist()), dict.fromkeys([(0, 0), (0, 1), (1, 0), (1, 1)], 1 / 4)),
        (lambda rng: sum(rng.choice([1, 2, 4], size=2, replace=False).tolist()), {3: 1 / 3, 5: 1 / 3, 6: 1 / 3}),
        (lambda rng: tuple(rng.choice(np.eye(2, dtype=int)).tolist()), {(1, 0): 0.5, (0, 1): 0.5}),
        (lambda rng: int(rng.permutation(3)[0]), {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
        (lambda rng: int(rng.integers([0, 5], [2, 6])[1]), {5: 1.0}),
        (lambda rng: int(rng.binomial(2, 0.25)), {0: 9 / 16, 1: 6 / 16, 2: 1 / 16}),
        (lambda rng: rng.random() < 0.3, {True: 0.3, False: 0.7}),
        (lambda rng: np.float64(0.3) > rng.random(), {True: 0.3, False: 0.7}),
        (lambda rng: 1 - rng.random() >= np.float64(0.9), {True: 0.1, False: 0.9}),
        (lambda rng: rng.uniform(1, 3) <= 1.5, {True: 0.25, False: 0.75}),
        (lambda rng: int(rng.random() * 3), {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
        (lambda rng: math.floor(-4 * rng.random()), {-4: 1 / 4, -3: 1 / 4, -2: 1 / 4, -1: 1 / 4}),
        (lambda rng: int(4 * rng.random() - 2), {-1: 1 / 4, 0: 1 / 2, 1: 1 / 4}),
        (lambda rng: round(rng.random() * 2), {0: 1 / 4, 1: 1 / 2, 2: 1 / 4}),
        (lambda rng: int((rng.random(2) < 0.5).sum()), {0: 1 / 4, 1: 1 / 2, 2: 1 / 4}),
        (lambda rng: int(categorical_sample([0.2, 0.0, 0.8], rng)), {0: 0.2, 2: 0.8}),
        (lambda rng: int(np.searchsorted([0.25, 1.0], rng.random())), {0: 0.25, 1: 0.75}),
    ],
)
def test_draws_of_numpy(draw, expected):
    assert is_close(of_numpy(draw), expected)


def test_a_number_that_was_compared_stays_what_it_was():
    def twice(rng):
        number = rng.random()
        return number < 0.2, number < 0.5, number > 0.1

    expected = {(True, True, True): 0.1, (True, True, False): 0.1, (False, True, True): 0.3, (False, False, True): 0.5}
    assert is_close(of_numpy(twice), expected)


def test_a_shuffle_of_equal_things_is_no_chance():
    def shuffled(rng):
        values = [7, 7, 8]
        rng.shuffle(values)
        return tuple(values)

    assert is_close(of_numpy(shuffled), {(7, 7, 8): 1 / 3, (7, 8, 7): 1 / 3, (8, 7, 7): 1 / 3})


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda rng: rng.random() < 0.25, {True: 0.25, False: 0.75}),
        (lambda rng: rng.randint(1, 2), {1: 0.5, 2: 0.5}),
        (lambda rng: rng.randrange(0, 6, 2), {0: 1 / 3, 2: 1 / 3, 4: 1 / 3}),
        (lambda rng: rng.choice("aab"), {"a": 2 / 3, "b": 1 / 3}),
        (lambda rng: rng.choices([1, 2], weights=[1, 3])[0], {1: 0.25, 2: 0.75}),
        (lambda rng: rng.choices([1, 2], cum_weights=[1, 4])[0], {1: 0.25, 2: 0.75}),
        (lambda rng: sum(rng.sample([1, 2, 4], 2)), {3: 1 / 3, 5: 1 / 3, 6: 1 / 3}),
        (lambda rng: rng.getrandbits(1), {0: 0.5, 1: 0.5}),
        (lambda rng: rng.uniform(0, 4) < 1, {True: 0.25, False: 0.75}),
    ],
)
def test_draws_of_python(draw, expected):
    assert is_close(distribution(lambda s: draw(s.random)), expected)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: random.random() < 0.5,
        lambda: np.random.rand() < 0.5,  # noqa: NPY002
        lambda: np.random.randint(2) == 1,  # noqa: NPY002
        lambda: random.Random(3).random() < 0.5,
        lambda: np.random.default_rng(3).random() < 0.5,
        lambda: np.random.RandomState(3).random_sample() < 0.5,
    ],
)
def test_global_and_new_generators_are_followed_too(draw):
    assert is_close(distribution(lambda _: draw()), {True: 0.5, False: 0.5})


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda s: s.generator.normal(), "normal"),
        (lambda s: s.generator.exponential(2), "exponential"),
        (lambda s: s.generator.poisson(2), "poisson"),
        (lambda s: s.state.randn(), "randn"),
        (lambda s: s.random.gauss(0, 1), "gauss"),
        (lambda s: float(s.generator.random()), "random"),
        (lambda s: np.array(3) + s.generator.uniform(), "uniform"),
        (lambda s: pickle.dumps(s.random.random()), "random"),
        (lambda s: s.generator.random() < s.generator.random(), "random"),
    ],
)
def test_continuous_draws_are_refused_by_name(draw, name):
    with pytest.raises(NotDiscoverableError, match=rf"its chance is not finite: it draws from {name}\(\)"):
        distribution(draw)


def test_a_seed_drawn_from_all_numbers_is_too_wide():
    with pytest.raises(NotDiscoverableError, match=r"integers\(\) draws one of 2,147,483,648 numbers"):
        of_numpy(lambda rng: rng.integers(2**31))


def test_a_global_function_imported_by_name_is_found_out():
    with pytest.raises(NotDiscoverableError, match="draws from the global generator of `random`"):
        distribution(lambda _: bound_before([1, 2, 3]))


def test_what_is_rejected_and_drawn_again_is_normalized():
    def other_than_zero(rng):
        while True:
            value = int(rng.integers(4))
            if value:
                return value

    found = of_numpy(other_than_zero)
    total = sum(found.values())
    assert {key: value / total for key, value in found.items()} == pytest.approx(dict.fromkeys([1, 2, 3], 1 / 3))


def test_what_is_nearly_always_rejected_is_refused():
    def rarely(rng):
        while rng.random() >= 0.01:
            pass

    with pytest.raises(NotDiscoverableError, match="its draws do not end: there were 1,000 in one step"):
        of_numpy(rarely)


def test_everything_is_put_back():
    before = random.random, np.random.rand, np.random.default_rng, random.Random
    distribution(lambda s: s.random.random() < 0.5)
    assert before == (random.random, np.random.rand, np.random.default_rng, random.Random)


def test_the_birthday_of_five_on_a_week():
    def shared(rng):
        days = rng.integers(7, size=5).tolist()
        return len(set(days)) < 5

    exact = 1 - Fraction(7 * 6 * 5 * 4 * 3, 7**5)
    assert of_numpy(shared)[True] == pytest.approx(float(exact))
