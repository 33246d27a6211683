"""What one update is made of, as plain records: numbers, arrays and their names. `anatomy` fills them.

Arrays are NumPy's, [A] where nothing else is said; all are in units of the reward scale.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.learning.example import Transition

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TdTarget:
    """How td_target came about, in units of the reward scale: Σ_k γ^k · r_k + discount · bootstrap."""

    rewards: tuple[float, ...]  # r_k
    factors: tuple[float, ...]  # γ^k
    reward: float  # their sum
    discount: float  # γ^m · (1 − terminated) after m steps
    next_state: int
    terminated: bool
    allowed: tuple[bool, ...]  # in the next state, [A]
    best_action: int | None  # a', by whose q_target is bootstrapped; None where the episode ended
    bootstrap: float | None  # q_target(next_state)[a']
    td_target: float
    td_error: float


@dataclass(frozen=True)
class Loss:
    """The loss of every output, [A], and the scale of their sum."""

    name: str
    errors: Floats
    outputs: Floats
    scale: float  # 1/(A·B)
    loss: float


@dataclass(frozen=True)
class Gradient:
    """The gradient of the loss by the Q values, and by the streams of a dueling head where there is one; [A], V []."""

    dE_dQ: Floats  # noqa: N815  # the derivative as it is written
    aggregation: str | None = None
    value: float | None = None
    advantage: Floats | None = None
    dE_dV: float | None = None  # noqa: N815
    dE_dA_nested: Floats | None = None  # noqa: N815
    dE_dA_shared: Floats | None = None  # noqa: N815  # None but for the mean, which alone has that form


@dataclass(frozen=True)
class WeightChange:
    """What the step did to one weight: the rows (along the first axis) that changed, and their numbers."""

    name: str
    shape: tuple[int, ...]
    rows: tuple[int, ...]
    entries: int  # how many changed
    largest: float  # change
    gradient: Floats  # of the rows
    before: Floats
    after: Floats


@dataclass(frozen=True)
class TabularStep:
    """The entry of a Q table as Q[s, a] += α · td_error has it, and as the step made it. None where there is no α."""

    alpha: float | None
    before: float
    td_error: float
    expected: float | None
    after: float
    difference: float | None


@dataclass(frozen=True)
class After:
    """The predictions after the step, and how many others moved with the one that was meant to."""

    q_values: Floats  # [A]
    td_error: float  # against the same td_target
    other_actions: int  # of the same state, that changed
    other_states: int  # that changed
    largest_elsewhere: float  # change in another state
    largest_state: int | None  # where that was


@dataclass(frozen=True)
class Difference:
    """The same for one weight."""

    name: str
    gradient_difference: float
    weight_difference: float


@dataclass(frozen=True)
class Comparison:
    """The overwrite recipe beside the masked gradient: largest values, and largest differences between the two."""

    overwrite_loss: float
    masked_loss: float
    largest_gradient: float
    gradient_difference: float
    largest_step: float
    weight_difference: float
    weights: tuple[Difference, ...]


@dataclass(frozen=True)
class Anatomy:
    """One update, in the order in which it is computed."""

    state: int
    action: int
    transitions: tuple[Transition, ...]
    batch_size: int
    learning_rate: float
    q_online: Floats  # of the state, [A]
    q_target: Floats  # of the next state, [A]
    choosing_q: Floats | None  # double DQN: q_online of the next state, [A]
    td_target: TdTarget
    targets: Floats  # [A]
    loss: Loss
    gradient: Gradient
    gradient_norm: float
    weights: tuple[WeightChange, ...]
    tabular: TabularStep | None
    after: After
    comparison: Comparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, arrays as lists, in full precision."""
        plain: dict[str, Any] = listed(dataclasses.asdict(self))
        return plain


def listed(value: Any) -> Any:
    """Return `value` with arrays and tuples inside of it as lists."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [listed(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
