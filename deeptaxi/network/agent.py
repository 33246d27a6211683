"""The network as others are served it: states in, Q values and the greedy action out, no answer where there is none.

    inside   = 0 ≤ s < S
    q_values = Q(s) if inside else NaN               [B, A]; −∞ for actions that may not be taken
    action   = argmax_a Q(s, a) if inside else −1    [B]

A state outside is looked up as state 0 and the answer thrown away: left to themselves, backends clamp, wrap around or
raise, each in its own way.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

OUTPUTS = ("q_values", "action")


def agent(network: keras.Model, states: int) -> keras.Model:
    """Return a model from states int32 `[B]` to a dict of ``q_values`` `[B, A]` and ``action`` int32 `[B]`.

    Args:
        network: states `[B]` to Q values `[B, A]`; its weights are shared.
        states: S.

    Beyond `network` it holds operations of Keras alone, so it loads wherever the network does.
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
    """Undo `agent`: return the network within, with the same weights; any other model as it is."""
    output = getattr(model, "output", None)  # a Sequential that was never called has none
    if not isinstance(output, dict) or set(output) != set(OUTPUTS):
        return model
    return next((layer for layer in model.layers if isinstance(layer, keras.Model)), model)


def check_states(model: keras.Model, states: int) -> None:
    """Refuse an agent that was made for another number of states: S − 1 must have an answer, S none.

    Raises:
        ValueError: it is for more states or for fewer.
    """
    actions = ops.convert_to_numpy(model(np.array([states - 1, states], "int32"))["action"])
    if (actions == -1).tolist() != [False, True]:
        raise ValueError(f"it was made for another number of states than {states}")
