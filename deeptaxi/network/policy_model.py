"""The network for serving: states in, Q values and greedy actions out, with defined results for invalid states.

    inside   = 0 ≤ s < S
    q_values = Q(s) if inside else NaN               [B, A]; −∞ for disallowed actions
    action   = argmax_a Q(s, a) if inside else −1    [B]

An invalid state is looked up as state 0 and the result discarded: by default, backends clamp, wrap around or raise,
each in its own way.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.network.tabulate import block_size, refusals, tabulate

OUTPUTS = ("q_values", "action")


def agent(network: keras.Model, states: int) -> keras.Model:
    """Return a model from states int32 `[B]` to a dict of ``q_values`` `[B, A]` and ``action`` int32 `[B]`.

    Args:
        network: states `[B]` to Q values `[B, A]`; its weights are shared.
        states: S.

    Apart from `network`, it consists of Keras operations only, so it loads wherever the network does.
    """
    state = keras.Input(shape=(), dtype="int32", name="state")
    inside = ops.logical_and(state >= 0, state < states)
    q_values = network(ops.where(inside, state, 0))
    action = ops.cast(ops.argmax(q_values, axis=-1), "int32")
    outputs = {
        "q_values": ops.where(ops.expand_dims(inside, -1), q_values, float("nan")),
        "action": ops.where(inside, action, -1),
    }
    return keras.Model(state, outputs, name="agent")


def q_network_of(model: keras.Model) -> keras.Model:
    """Undo `agent`: return the inner network, which shares its weights; return any other model unchanged.

    Whether the two give the same results is checked only by `check_agent`.
    """
    output = getattr(model, "output", None)  # a Sequential never called has none
    if not isinstance(output, dict) or set(output) != set(OUTPUTS):
        return model
    return next((layer for layer in model.layers if isinstance(layer, keras.Model)), model)


def check_agent(model: keras.Model, network: keras.Model, states: int) -> None:
    """Verify that a model with the outputs of `agent` gives the same results as `agent(network, states)`.

    It is called on every state and on some invalid ones: its graph may contain anything besides the network.

    Raises:
        ValueError: the results differ, or it was made for another number of states.
        DeepTaxiError: it cannot be run.
    """
    edges = np.array([-1, 0, states - 1, states, states + 1])
    block = block_size(model, states)
    with refusals():
        known = answers(model, edges)["action"] != -1
    if known.tolist() != [False, True, True, False, False]:
        raise ValueError(f"it was made for another number of states than {states}")
    expected = tabulate(network, states)
    actions = expected.argmax(axis=1)
    for first in range(0, states, block):
        some = np.arange(first, min(first + block, states))
        with refusals():
            found = answers(model, some)
        alike = np.allclose(found["q_values"], expected[some], rtol=1e-4, atol=1e-4, equal_nan=True)
        if not alike or not np.array_equal(found["action"], actions[some]):
            raise ValueError(
                "its answers are not those of the network in it, so something else is in its graph; export it again"
            )


def answers(model: keras.Model, states: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
    """Return the outputs of an agent for `states` `[B]`."""
    found = model(states.astype("int32"), training=False)
    return {name: ops.convert_to_numpy(found[name]) for name in OUTPUTS}
