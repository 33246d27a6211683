"""Transition and reward matrices, as in MDPtoolbox and QuantEcon, dense or sparse.

| convention             | transitions                        | rewards                       |
|------------------------|------------------------------------|-------------------------------|
| MDPtoolbox in Python   | P `[A, S, S]`, or A matrices       | R `[S]`, `[S, A]`, `[A, S, S]` |
| MDPtoolbox in MATLAB   | P `[S, S, A]`                      | R `[S, A]`, `[S, S, A]`       |
| QuantEcon              | Q `[S, A, S]`                      | R `[S, A]`                    |
| QuantEcon, pairs       | Q `[L, S]`, `s_indices`, `a_indices` `[L]` | R `[L]`               |

The layout of three-dimensional transitions is recognized by their shape; where S = A, by where the rows sum to 1, and
then by the name: Q is QuantEcon's. R `[S]` is earned in the state, whatever the action. A reward of −∞ and a row of
zeros both say that the action may not be taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.mdp.files.outcomes import Facts, Outcomes, Reading, ReadOptions, Source, assemble_table
from deeptaxi.mdp.table import SUM_TOLERANCE, Floats, TableError, check_memory

NAMES = {  # in lower case, the first one shown
    "P": ("p", "transitions", "transition", "probability", "probabilities", "transition_probabilities", "t"),
    "Q": ("q",),
    "R": ("r", "rewards", "reward"),
    "s_indices": ("s_indices",),
    "a_indices": ("a_indices",),
    "start": ("start", "initial", "initial_distribution", "initial_state_distrib", "p0", "mu0", "isd"),
    "discount": ("discount", "gamma", "beta"),
}
LAYOUTS = {"[A, S, S]": (0, 1, 2), "[S, A, S]": (1, 0, 2), "[S, S, A]": (2, 0, 1)}  # axes of action, state, next state


def recognize_matrices(names: Sequence[str]) -> dict[str, str]:
    """Return the names of `NAMES` that are there, and how each is written."""
    lower = {name.lower(): name for name in names}
    found = {key: next((lower[alias] for alias in aliases if alias in lower), None) for key, aliases in NAMES.items()}
    return {key: name for key, name in found.items() if name is not None}


def holds_matrices(names: Sequence[str]) -> bool:
    """Whether arrays of these names are the transitions, or the rewards, of one of the conventions."""
    found = recognize_matrices(names)
    return bool({"P", "Q"} & found.keys()) or {"R", "s_indices"} <= found.keys()


def read_matrices(source: Source, arrays: Mapping[str, Any], options: ReadOptions, matlab: bool = False) -> Reading:
    """Make a table of matrices by their names.

    Args:
        source: the file.
        arrays: dense arrays, sparse matrices, or lists of these.
        options: what the arrays do not say.
        matlab: whether to prefer MATLAB's layout where the shape leaves it open.

    Raises:
        TableError: an array is missing, is unknown, or has another shape.
    """
    found = recognize_matrices(list(arrays))
    unknown = [name for name in arrays if name not in found.values()]
    if unknown:
        known = ", ".join(found.values())
        raise TableError(f"{source.name} holds an array '{unknown[0]}' that is not known beside {known}: remove it")
    key = next((name for name in ("Q", "P") if name in found), None)
    if key is None or "R" not in found:
        missing = (
            "the transitions (P [A, S, S] or Q [S, A, S])"
            if key is None
            else "the rewards (R [S], [S, A] or [A, S, S])"
        )
        raise TableError(f"{source.name} holds {', '.join(map(repr, arrays))}, and lacks {missing}")
    given = {name: arrays[written] for name, written in found.items()}
    discount = scalar(source, found.get("discount"), given.get("discount"))
    start = None if "start" not in given else dense(source, found["start"], given["start"]).ravel()
    name, reward = (found[key], found["R"]), given["R"]
    if "s_indices" in given or "a_indices" in given:
        return read_pairs(source, given, name, Facts(0, 0, start, discount), options)
    return from_matrices(source, given[key], reward, options, name, Facts(0, 0, start, discount), matlab, key == "Q")


def scalar(source: Source, name: str | None, value: Any) -> float | None:
    """Return a discount, or None."""
    if value is None:
        return None
    found = dense(source, str(name), value)
    if found.size != 1:
        raise TableError(f"{source.name}: '{name}' has shape {list(found.shape)}: expected one number")
    return float(found.ravel()[0])


def is_sparse(value: Any) -> bool:
    """Whether a value is a matrix or an array of SciPy's sparse formats."""
    return type(value).__module__.startswith("scipy.sparse") and hasattr(value, "tocoo")


def dense(source: Source, name: str, value: Any) -> Floats:
    """Convert a value to an array of numbers.

    Raises:
        TableError: it is no array of numbers.
    """
    try:
        found = np.asarray(value.toarray() if is_sparse(value) else value)
    except ValueError:
        raise TableError(f"{source.name}: '{name}' has rows of several lengths: expected an array of numbers") from None
    if found.dtype.kind not in "biuf":
        raise TableError(f"{source.name}: '{name}' holds {found.dtype} {list(found.shape)}: expected numbers")
    return found.astype(np.float64)


Triples = tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Floats
]  # action, state, next state, probability


def from_matrices(
    source: Source,
    transitions: Any,
    rewards: Any,
    options: ReadOptions,
    names: tuple[str, str] = ("P", "R"),
    facts: Facts | None = None,
    matlab: bool = False,
    quantecon: bool = False,
) -> Reading:
    """Make a table of transition matrices and rewards.

    Args:
        source: where they come from.
        transitions: an array with three dimensions, or one matrix per action, dense or sparse.
        rewards: an array with one to three dimensions, or one matrix per action.
        options: what they do not say.
        names: what transitions and rewards are called.
        facts: start and discount, where known.
        matlab: whether MATLAB's layout is meant where the shape leaves it open.
        quantecon: whether QuantEcon's is.

    Raises:
        TableError: the shapes do not fit together, or the rows do not sum to 1.
    """
    prefer = "[S, S, A]" if matlab else "[S, A, S]" if quantecon else "[A, S, S]"
    (action, state, next_state, chance), layout, states, actions = triples(source, transitions, names[0], prefer)
    reward, form = rewards_at(source, rewards, names[1], (action, state, next_state), (states, actions), layout)
    off_rows(source, names[0], (action, state, chance), (states, actions), reward)
    ended = np.zeros(len(state), np.bool_)
    known = Facts(
        states,
        actions,
        facts.start if facts else None,
        facts.discount if facts else None,
        cure="its rows are zero for every action; let each action stay there, with a reward of 0, where it is an end",
    )
    outcomes = Outcomes(state, action, next_state, chance, reward, ended)
    found = assemble_table(source, outcomes, known, options)
    return Reading(found.table, f"matrices {names[0]}{layout}, {names[1]}{form}", found.notes)


def triples(source: Source, transitions: Any, name: str, prefer: str) -> tuple[Triples, str, int, int]:
    """Return the entries of transition matrices that are not 0, their layout, S and A.

    Raises:
        TableError: the shape fits no layout.
    """
    if is_sparse(transitions):
        transitions = [transitions]
    if isinstance(transitions, list | tuple) and any(map(is_sparse, transitions)):
        return sparse_triples(source, transitions, name)
    array = dense(source, name, transitions)
    fitting = [layout for layout, axes in LAYOUTS.items() if array.ndim == 3 and is_square(array.shape, axes)]
    if not fitting or 0 in array.shape:
        raise TableError(
            f"{source.name}: '{name}' has shape {list(array.shape)}: expected [A, S, S], [S, A, S] or [S, S, A], "
            "the next state's probabilities from each state"
        )
    if len(fitting) > 1:
        sound = [
            layout for layout in fitting if np.allclose(array.transpose(LAYOUTS[layout]).sum(-1), 1, atol=SUM_TOLERANCE)
        ]
        fitting = sound or fitting
    layout = prefer if prefer in fitting else fitting[0]
    array = array.transpose(LAYOUTS[layout])
    actions, states, _ = array.shape
    check_memory((states, actions, 1))
    action, state, next_state = np.nonzero(array)
    return (action, state, next_state, array[action, state, next_state]), layout, states, actions


def is_square(shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether state and next state have the same number in a layout."""
    return shape[axes[1]] == shape[axes[2]]


def sparse_triples(source: Source, matrices: Sequence[Any], name: str) -> tuple[Triples, str, int, int]:
    """Return the entries of sparse matrices, one per action."""
    states = matrices[0].shape[0]
    parts = []
    for action, matrix in enumerate(matrices):
        if matrix.shape != (states, states):
            raise TableError(
                f"{source.name}: '{name}' of action {action} has shape {list(matrix.shape)}, not {[states, states]}"
            )
        entries = as_sparse(matrix).tocoo()
        entries.sum_duplicates()
        rows = entries.row.astype(np.int64)
        parts.append(
            (np.full(len(rows), action, np.int64), rows, entries.col.astype(np.int64), entries.data.astype(np.float64))
        )
    check_memory((states, len(matrices), 1))
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return (joined[0], joined[1], joined[2], joined[3]), "[A] of sparse [S, S]", int(states), len(matrices)


def as_sparse(matrix: Any) -> Any:
    """Return a matrix in a sparse format."""
    from scipy import sparse

    return matrix if is_sparse(matrix) else sparse.coo_array(np.asarray(matrix, np.float64))


def rewards_at(
    source: Source,
    rewards: Any,
    name: str,
    where: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    sizes: tuple[int, int],
    layout: str,
) -> tuple[Floats, str]:
    """Return the reward of each entry of the transitions, `[L]`, and the layout of the rewards.

    Raises:
        TableError: the shape fits nothing.
    """
    (action, state, next_state), (states, actions) = where, sizes
    if isinstance(rewards, list | tuple) and any(map(is_sparse, rewards)):
        if len(rewards) != actions or any(matrix.shape != (states, states) for matrix in rewards):
            raise TableError(
                f"{source.name}: '{name}' does not fit the transitions: expected {actions} matrices {[states, states]}"
            )
        found = np.zeros(len(action))
        for number, matrix in enumerate(rewards):
            mine = action == number
            found[mine] = np.asarray(as_sparse(matrix).tocsr()[state[mine], next_state[mine]]).ravel()
        return found, "[A] of sparse [S, S]"
    array = dense(source, name, rewards)
    if array.ndim == 2 and 1 in array.shape and array.size == states and array.shape != (states, actions):
        array = array.ravel()  # MATLAB's vectors have two dimensions
    if array.shape == (states,):
        return array[state], "[S]"
    if array.shape == (states, actions):
        return array[state, action], "[S, A]"
    axes = LAYOUTS.get(layout, LAYOUTS["[A, S, S]"])
    if array.ndim == 3 and array.transpose(axes).shape == (actions, states, states):
        return array.transpose(axes)[action, state, next_state], layout if layout in LAYOUTS else "[A, S, S]"
    hint = ": turn it (R.T)" if array.shape == (actions, states) else ""
    raise TableError(
        f"{source.name}: '{name}' has shape {list(array.shape)}{hint}; expected [S] = {[states]}, "
        f"[S, A] = {[states, actions]}, or that of the transitions"
    )


def off_rows(
    source: Source,
    name: str,
    where: tuple[NDArray[np.int64], NDArray[np.int64], Floats],
    sizes: tuple[int, int],
    reward: Floats,
) -> None:
    """Reject matrices that are laid out otherwise: if nearly no row sums to 1, the columns may.

    `assemble_table` names the row if it is a single one.
    """
    (action, state, chance), (states, actions) = where, sizes
    if not len(chance) or not np.isfinite(chance).all() or np.isneginf(reward).any():
        return
    sums = np.bincount(state * actions + action, chance, minlength=states * actions)
    used = sums > 0
    if states > 2 and (np.abs(sums[used] - 1) > SUM_TOLERANCE).mean() > 0.9:
        raise TableError(
            f"{source.name}: nearly no row of '{name}' sums to 1 (the first sums to {sums[used][0]:.6g}): the last "
            "axis must be the next state"
        )


def read_pairs(
    source: Source, given: Mapping[str, Any], names: tuple[str, str], facts: Facts, options: ReadOptions
) -> Reading:
    """Make a table of QuantEcon's pairs of state and action.

    Raises:
        TableError: the arrays do not fit together, or a pair occurs twice.
    """
    for name in ("s_indices", "a_indices", "Q"):
        if name not in given and not (name == "Q" and "P" in given):
            raise TableError(
                f"{source.name} lacks '{name}': QuantEcon's pairs are R [L], Q [L, S], s_indices [L], a_indices [L]"
            )
    reward = dense(source, names[1], given["R"]).ravel()
    transitions: Any = given.get("Q", given.get("P"))
    matrix: Any = transitions.tocoo() if is_sparse(transitions) else dense(source, names[0], transitions)
    shape = matrix.shape
    pairs = {name: whole(source, name, given[name]) for name in ("s_indices", "a_indices")}
    if len(shape) != 2 or any(len(column) != shape[0] for column in (*pairs.values(), reward)):
        raise TableError(
            f"{source.name}: {names[0]} {list(shape)}, {names[1]} {[len(reward)]}, s_indices "
            f"{[len(pairs['s_indices'])]} and a_indices {[len(pairs['a_indices'])]} do not fit: expected [L, S] and "
            "three times [L]"
        )
    states, actions = int(shape[1]), int(pairs["a_indices"].max()) + 1
    if pairs["s_indices"].max() >= states:
        raise TableError(
            f"{source.name}: s_indices holds {pairs['s_indices'].max()}: expected 0 to {states - 1}; count from 0"
        )
    check_memory((states, actions, 1))
    numbers = pairs["s_indices"] * actions + pairs["a_indices"]
    double = np.flatnonzero(np.bincount(numbers) > 1)
    if len(double):
        state, action = divmod(int(double[0]), actions)
        raise TableError(f"{source.name}: the pair of state {state}, action {action} occurs twice")
    if is_sparse(matrix):
        row, next_state, chance = matrix.row, matrix.col.astype(np.int64), matrix.data.astype(np.float64)
    else:
        row, next_state = np.nonzero(matrix)
        chance = matrix[row, next_state]
    ended = np.zeros(len(row), np.bool_)
    outcomes = Outcomes(pairs["s_indices"][row], pairs["a_indices"][row], next_state, chance, reward[row], ended)
    known = Facts(states, actions, facts.start, facts.discount, cure="give it a pair with an action")
    found = assemble_table(source, outcomes, known, options)
    return Reading(found.table, f"pairs {names[0]}[L, S], {names[1]}[L] of QuantEcon", found.notes)


def whole(source: Source, name: str, value: Any) -> NDArray[np.int64]:
    """Convert an array to whole numbers from 0, `[L]`."""
    found = dense(source, name, value).ravel()
    wrong = ~(np.isfinite(found) & (found >= 0) & (found == np.floor(found)))
    if wrong.any():
        place = f"{found[wrong][0]:g} at [{int(np.argmax(wrong))}]"
        raise TableError(f"{source.name}: '{name}' holds {place}: expected whole numbers from 0")
    if not len(found):
        raise TableError(f"{source.name}: '{name}' is empty")
    return found.astype(np.int64)
