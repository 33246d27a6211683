from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from deeptaxi.backend import keras_backend, xla


def numbers(x):
    return ops.convert_to_numpy(x)


def compiled(function, *arguments):
    """Run a function compiled; return its result or results as NumPy arrays."""
    results = keras_backend.compiled(function, [])(*arguments)
    return tuple(map(numbers, results)) if isinstance(results, tuple | list) else numbers(results)


ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)


def check_arrays():
    """Gather, scatter and put rows, compiled."""
    index = np.array([3, 0, 3], np.int32)
    values = np.array([[10, 20], [30, 40], [50, 60]], np.float32)

    def step(rows, index, values, number):
        return (
            xla.gather(rows, index),
            xla.scatter(rows, index[:2], values[:2]),
            xla.scatter_add(rows, index, values),
            xla.at(rows, number),
            xla.put(rows, number, values),
            xla.put(rows[:, 0], number, values[:, 1]),
            xla.materialize(rows) * 2,
        )

    found = compiled(step, ROWS, index, values, np.int32(1))
    np.testing.assert_array_equal(found[0], [[6, 7], [0, 1], [6, 7]])
    np.testing.assert_array_equal(found[1], [[30, 40], [2, 3], [4, 5], [10, 20]])
    np.testing.assert_array_equal(found[2], [[30, 41], [2, 3], [4, 5], [66, 87]])
    np.testing.assert_array_equal(found[3], [2, 3])
    np.testing.assert_array_equal(found[4], [[0, 1], [10, 20], [30, 40], [50, 60]])
    np.testing.assert_array_equal(found[5], [0, 20, 40, 60])
    np.testing.assert_array_equal(found[6], 2 * ROWS)


def check_sums():
    """Sum rows of all kinds of lengths."""
    for length in (1, 2, 5, 7, 128):
        rows = np.arange(3 * length, dtype=np.float32).reshape(3, length)
        np.testing.assert_array_equal(compiled(xla.sum_rows, rows), rows.sum(axis=1))


def check_loop():
    """Loop over a state with a hole; the ends are known only when it runs."""

    def step(first, last, start):
        sums, hole, seen = xla.loop(first, last, lambda i, s: (s[0] + ops.cast(i, "float32"), s[1], s[2] + 1), start)
        assert hole is None
        return sums, seen

    def of(first, last, start):
        return step(first, last, (start, None, first))

    for first, last, total, seen in ((2, 6, 14, 6), (3, 3, 0, 3), (5, 2, 0, 5)):
        found = compiled(of, np.int32(first), np.int32(last), np.float32(0))
        assert found == (total, seen)


def check_bits():
    """Draw random bits: by seed and index alone, and spread over all of their range."""
    draw = [compiled(lambda i, seed=seed: xla.random_bits(seed, i, (50, 40)), np.int32(index)) for seed, index in KEYS]
    assert draw[0].dtype == np.int32
    np.testing.assert_array_equal(draw[0], draw[-1])
    assert len({array.tobytes() for array in draw}) == len(KEYS) - 1
    bits = draw[0].view(np.uint32)
    shares = [((bits >> place) & 1).mean() for place in range(32)]
    np.testing.assert_allclose(shares, 0.5, atol=0.07)  # √(1/4·2000) = 0.011: six of them
    if keras_backend.name() == "jax":  # whose own bits they are
        import jax

        for (seed, index), array in zip(KEYS, draw, strict=True):
            key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), index)
            np.testing.assert_array_equal(array.view(np.uint32), jax.random.bits(key, (50, 40), "uint32"))


KEYS = [(1, 7), (1, 8), (2, 7), (2**31 - 1, 7), (1, 2**30 + 7), (1, 7)]


def check_divisions():
    """Divide by constants and by numbers known only when it runs, up to the largest."""
    numbers = np.array([0, 1, 5, 6, 7, 2**30, 2**31 - 2, 2**31 - 1], np.int32)
    for divisor in (1, 2, 6, 7, 500_000, 2**30, 2**31 - 1):
        found = compiled(lambda x, y, d=divisor: (*xla.divide(x, y), *xla.divide(x, d)), numbers, np.int32(divisor))
        for quotient, rest in (found[:2], found[2:]):
            np.testing.assert_array_equal(quotient, numbers // divisor)
            np.testing.assert_array_equal(rest, numbers % divisor)


CHECKS = (check_arrays, check_sums, check_loop, check_bits, check_divisions)


def check_compiled():
    """Check everything on this backend."""
    for check in CHECKS:
        check()


@pytest.mark.parametrize("check", CHECKS)
def test_compiled_functions_do_what_they_say(check):
    check()


def test_one_value_of_a_repeated_index_is_kept():
    values = np.array([[10, 11], [20, 21], [30, 31]], np.float32)
    found = compiled(xla.scatter, ROWS, np.array([1, 1, 2], np.int32), values)
    assert found[1].tolist() in values[:2].tolist()
    np.testing.assert_array_equal(found[[0, 2, 3]], [[0, 1], [30, 31], [6, 7]])


def test_bits_become_numbers_by_hand():
    bits = np.array([0, 1, 256, -1, -(2**31), 2**31 - 1], np.int32)
    assert numbers(xla.naturals(bits)).tolist() == [0, 1, 256, 2**31 - 1, 0, 2**31 - 1]
    assert numbers(xla.fractions(bits)).tolist() == [0, 0, 2**-24, 1 - 2**-24, 0.5, 0.5 - 2**-24]


@pytest.mark.parametrize(
    ("count", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_has_the_known_answers_of_its_authors(count, key, expected):
    # The known answers of Threefry-2x32 with 20 rounds in Random123, the reference implementation.
    first, second = (np.array([half], np.uint32) for half in count)
    assert tuple(int(half[0]) for half in xla.threefry(np.array(key, np.uint32), first, second)) == expected


def test_a_pullback_can_be_called_more_than_once():
    def step(x, y):
        result, back = xla.pullback(lambda a, b: a * b, (x, y))
        return result, *back(ops.ones_like(result)), *back(2 * ops.ones_like(result))

    assert [float(value) for value in compiled(step, np.float32(3), np.float32(5))] == [15, 5, 3, 10, 6]
