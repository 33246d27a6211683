"""Models whose graphs hold a table and anything else, and what they answer when Keras itself calls them.

A verdict on such a model must be refused, or be that of its answers: `oracle` calls it on one state after the other,
and plays by them. It knows nothing of how deeptaxi finds the Q values of all states.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

S, A = 16, 4
PATH = 6  # steps of the shortest way over a FrozenLake that does not slip
INPUTS = ["int32"] * 12 + ["int64", "int8", "float32", "float16"]
WIDTHS = [3, 1_000, 500_000, 2_000_000, 40_000_000]
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up
LAKE = "SFFFFHFHFFFHHFFG"

Change = Callable[[Any], Any]  # of a tensor


def befores() -> list[Change]:
    """Return what may be made of the state before it is looked up."""
    from keras import ops

    return [
        lambda x: S - 1 - x,
        lambda x: ops.mod(x + 1, S),
        lambda x: ops.flip(x, axis=0),
        lambda x: ops.sort(x, axis=0),
        lambda x: ops.cast(ops.cast(x, "int8"), "int32"),
        lambda x: ops.max(ops.repeat(ops.expand_dims(x, 1), 3, axis=1), axis=1),
    ]


def afters(rng: random.Random, state: Any) -> list[Change]:
    """Return what may be made of the Q values."""
    import keras
    from keras import ops

    layers = keras.layers
    activations = [name for name in dir(keras.activations) if name[0].islower()]
    return [
        lambda x: ops.negative(x),
        lambda x: 2 * x + 1,
        lambda x: x * (8 - ops.cast(ops.expand_dims(state, 1), x.dtype)),
        lambda x: layers.Activation(rng.choice(activations))(x),
        lambda x: ops.cast(x, rng.choice(["float16", "bfloat16", "float64", "int32", "bool", "complex64"])),
        lambda x: ops.flip(x, axis=rng.choice([0, 1])),
        lambda x: ops.softmax(x, axis=rng.choice([0, 1])),
        lambda x: ops.repeat(x, rng.choice(WIDTHS[:3]), axis=0),
        lambda x: ops.max(layers.RepeatVector(rng.choice(WIDTHS))(x), axis=1),
        lambda x: ops.tile(x, (rng.choice([1, 10**6]), 1)),
        lambda x: ops.matmul(ops.matmul(x, ops.transpose(x)), x),
        lambda x: ops.reshape(ops.tile(x, (1, 3)), (-1, A)),
        lambda x: x - ops.mean(x, axis=0, keepdims=True),
        lambda x: layers.Dense(A)(layers.Dense(rng.choice([8, 20_000]), "relu")(x)),
        lambda x: layers.Dropout(0.5)(x, training=True),
        lambda x: layers.BatchNormalization()(x, training=True),
    ]


def around_table(rng: random.Random, content: bytes) -> bytes:
    """Return a model with something before, after or beside the table of a sound one, or around its network."""
    import keras

    with tempfile.TemporaryDirectory(prefix="graph-") as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(content)
        for _ in range(20):
            try:
                made = graph(rng, keras.saving.load_model(path, compile=False))
                made.save(path)
                break
            except Exception:  # not everything can be joined
                path.write_bytes(content)
        return path.read_bytes()


def graph(rng: random.Random, network: Any) -> Any:
    """Return such a model."""
    import keras
    from keras import ops

    from deeptaxi.network.build import with_mask
    from deeptaxi.network.policy_model import agent

    if rng.random() < 0.2:  # what `export` writes, with something after its Q values
        made = agent(with_mask(network, np.ones((S, A), bool)) if rng.random() < 0.3 else network, S)
        q_values, action = made.output["q_values"], made.output["action"]
        q_values = rng.choice([q_values, rng.choice(afters(rng, made.input))(q_values)])
        action = rng.choice([action, ops.cast(ops.argmin(q_values, axis=-1), "int32")])
        return keras.Model(made.input, {"q_values": q_values, "action": action})
    state = keras.Input((), dtype=rng.choice(INPUTS), name="state")
    looked_up = rng.choice([network, network.layers[-1]])
    x: Any = state
    for change in rng.sample(befores(), rng.choice([0, 0, 0, 1, 2])):
        x = change(x)
    x = looked_up(x)
    for change in rng.sample(afters(rng, state), rng.choice([0, 1, 1, 1, 2, 3])):
        x = change(x)
    if rng.random() < 0.1:
        x = x - 2 * looked_up(S - 1 - state)
    return keras.Model(state, rng.choice([x, x, x, [x], {"q": x}, [x, x]]))


def oracle(path: Path) -> bool:
    """Return whether the greedy policy of a model takes the shortest way, as Keras answers for each state alone."""
    import keras

    model = keras.saving.load_model(path, compile=False)
    found = [keras.tree.flatten(model(np.array([state], "int32"), training=False)) for state in range(S)]
    if isinstance(model.output, dict) and "q_values" in model.output:
        found = [[model(np.array([state], "int32"), training=False)["q_values"]] for state in range(S)]
    policy = [int(keras.ops.convert_to_numpy(answer[0]).argmax()) for answer in found]
    row = column = 0
    for _ in range(PATH):
        down, across = MOVES[policy[4 * row + column]]
        row, column = min(max(row + down, 0), 3), min(max(column + across, 0), 3)
        if LAKE[4 * row + column] == "H":
            return False
    return LAKE[4 * row + column] == "G"


def false_verdicts(words: list[str], out: str) -> list[str]:
    """Return what a command that was not refused said of a model, where its answers say otherwise."""
    said = re.search(r"policy is (not )?optimal|\"optimal\": (false|true)|Optimal +(no|yes)", out)
    if said is None:
        return []
    optimal = not (said[1] or said[2] == "false" or said[3] == "no")
    path = next(Path(word) for word in words if word.endswith(".keras"))
    return [] if oracle(path) == optimal else [f"it said {said[0]!r}, and the answers of the model say otherwise"]
