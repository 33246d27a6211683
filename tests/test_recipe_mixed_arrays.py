"""The pure functions take arrays of the backend, of NumPy, and any mixture of them: the numbers are the same."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from keras import ops

from deeptaxi.learning import sum_tree
from deeptaxi.recipe import (
    clip_by_global_norm,
    epsilon_greedy,
    is_greedy,
    loss_and_slope,
    loss_of,
    n_step,
    overwrite,
    td_targets,
)

ROWS, ACTIONS = 5, 3
RNG = np.random.default_rng(0)
Q, OTHER_Q, NOISE = RNG.random((3, ROWS, ACTIONS), np.float32)
REWARDS, WEIGHTS, DRAWS = RNG.random((3, ROWS), np.float32)
DISCOUNTS = np.array([0.9, 0, 0.9, 0.9, 0], np.float32)
ALLOWED = np.eye(ACTIONS, dtype=bool)[[0, 1, 2, 0, 1]] | (RNG.random((ROWS, ACTIONS)) < 0.5)
ACTED = np.array([0, 2, 1, 1, 0], np.int32)
ENDS = RNG.random((2, ROWS, ACTIONS)) < 0.3
LEAVES = RNG.random(16, np.float32)
CASES = {
    "td_targets": (td_targets, REWARDS, DISCOUNTS, Q, ALLOWED),
    "double": (td_targets, REWARDS, DISCOUNTS, Q, ALLOWED, OTHER_Q),
    "overwrite": (overwrite, Q, ACTED, REWARDS),
    "mse": (lambda *arrays: loss_of("mse", *arrays), Q, OTHER_Q, WEIGHTS),
    "huber": (lambda *arrays: loss_of("huber", *arrays), Q, OTHER_Q, WEIGHTS),
    "mse-slope": (lambda *arrays: loss_and_slope("mse", *arrays, ACTIONS), REWARDS, WEIGHTS),
    "huber-slope": (lambda *arrays: loss_and_slope("huber", *arrays, ACTIONS), REWARDS, WEIGHTS),
    "clipping": (lambda *arrays: clip_by_global_norm(list(arrays), 0.5), Q, REWARDS),
    "n-step": (lambda *arrays: n_step(*arrays, 0.9), Q, *ENDS),
    "watkins": (lambda greedy, *arrays: n_step(*arrays, 0.9, greedy), ALLOWED[:, 1:], Q, *ENDS),
    "is-greedy": (is_greedy, Q, ACTED, ALLOWED),
    "epsilon-greedy": (lambda q, *rest: epsilon_greedy(q, np.float32(0.4), *rest), Q, DRAWS, NOISE, ALLOWED),
    "draw": (lambda leaves, uniforms: sum_tree.draw([leaves], uniforms), LEAVES, DRAWS),
    "assign": (lambda leaves, *rest: sum_tree.assign([leaves], *rest), LEAVES, np.arange(5, dtype=np.int32), REWARDS),
    "priorities": (lambda errors: sum_tree.priorities(errors, 0.6), REWARDS),
    "importance": (lambda chances: sum_tree.importance_weights(chances, np.float32(9), 0.4), WEIGHTS),
}


def results(function, arrays):
    """Return what a function gives, as a list of NumPy arrays."""
    found = function(*arrays)
    return [np.asarray(ops.convert_to_numpy(x)) for x in (found if isinstance(found, tuple | list) else [found])]


def check_mixture(name):
    """Give all arrays as NumPy's; then one of them as the backend's; then all but one."""
    function, *arrays = CASES[name]
    expected = results(function, [ops.convert_to_tensor(array) for array in arrays])
    for chosen in [(), *combinations(range(len(arrays)), 1), *combinations(range(len(arrays)), len(arrays) - 1)]:
        mixture = [ops.convert_to_tensor(x) if index in chosen else x for index, x in enumerate(arrays)]
        for one, other in zip(results(function, mixture), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, err_msg=f"{name} {chosen}")


def check_mixtures():
    """Check everything on this backend."""
    for name in CASES:
        check_mixture(name)


@pytest.mark.parametrize("name", CASES)
def test_arrays_of_numpy_and_of_the_backend_can_be_mixed(name):
    check_mixture(name)
