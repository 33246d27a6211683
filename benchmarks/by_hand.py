"""A deep Q-learning by hand, as people write it, with the faults that people make: for `benchmarks.faults` alone.

Random episodes on a transition table fill a memory once; then a Keras model of anyone's making is fitted to td_target,
its target network a copy that is refreshed every `REFRESH` updates. ``bootstrap`` says what ends an episode for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

from deeptaxi.mdp.planning import reachable
from deeptaxi.mdp.simulate import inverse_table
from deeptaxi.mdp.table import TransitionTable

COPIES, STEPS, BATCH, REFRESH = 128, 1_000, 256, 40
Bootstrap = Literal["unless terminated", "unless over", "always"]


class Memory(NamedTuple):
    """Transitions, `[n]` each."""

    state: Any
    action: Any
    reward: Any
    next_state: Any
    terminated: Any
    truncated: Any


def gather(table: TransitionTable, time_limit: int, rng: np.random.Generator) -> Memory:
    """Play at random, from random states; return what happened."""
    cumulative, anywhere = inverse_table(table.probability), np.flatnonzero(reachable(table))

    def begin(count: int) -> Any:
        return rng.choice(anywhere, count)

    state, time, rows = begin(COPIES), np.zeros(COPIES, int), []
    for _ in range(STEPS):
        action = rng.integers(0, table.actions, COPIES)
        outcome = (rng.random(COPIES)[:, None] >= cumulative[state, action]).sum(axis=1)
        where, time = (state, action, outcome), time + 1
        terminated, reached = table.terminated[where], table.next_state[where]
        truncated = (time >= time_limit) & ~terminated
        rows.append((state, action, table.reward[where], reached, terminated, truncated))
        over = terminated | truncated
        state, time = np.where(over, begin(COPIES), reached), np.where(over, 0, time)
    return Memory(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def train(
    model: keras.Model,
    table: TransitionTable,
    seed: int,
    discount: float,
    updates: int,
    bootstrap: Bootstrap = "unless terminated",
    time_limit: int = 200,
    learning_rate: float = 0.003,
) -> None:
    """Fit `model`, from what `feed` makes of state numbers to Q values, in place."""
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    memory = gather(table, time_limit, rng)
    over = {"unless terminated": memory.terminated, "unless over": memory.terminated | memory.truncated}
    going_on = 1.0 - over.get(bootstrap, np.zeros_like(memory.terminated))
    target = keras.models.clone_model(model)
    target.set_weights(model.get_weights())
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, updates, 0.01))
    optimizer.build(model.trainable_variables)

    @tf.function
    def update(state: Any, action: Any, td_target: Any) -> None:
        with tf.GradientTape() as tape:
            q = model(state, training=True)
            chosen = tf.gather(q, action, batch_dims=1)
            loss = tf.reduce_mean((td_target - chosen) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    values = None
    everything = feed(model, np.arange(table.states), table.states)
    for number in range(updates):
        if number % REFRESH == 0:
            target.set_weights(model.get_weights())
            values = keras.ops.convert_to_numpy(target(everything, training=False)).max(axis=1)
        drawn = rng.integers(0, len(memory.state), BATCH)
        td_target = memory.reward[drawn] + discount * going_on[drawn] * values[memory.next_state[drawn]]
        states = feed(model, memory.state[drawn], table.states)
        update(tf.constant(states), tf.constant(memory.action[drawn]), tf.constant(td_target.astype("float32")))


def feed(model: keras.Model, states: Any, count: int) -> Any:
    """Return `states` `[B]` of `count` as the model takes them in."""
    from deeptaxi.network import inspect

    return inspect.feed(model, states, count)


def dense(units: int, actions: int, activation: str | None = None) -> Callable[[int], keras.Model]:
    """Return what builds a model of Dense layers over one-hot states, from the number of states."""

    def build(states: int) -> keras.Model:
        layers = [keras.layers.Dense(units, "relu")] if units else []
        head = keras.layers.Dense(actions, activation, use_bias=bool(units))
        encoded = keras.layers.CategoryEncoding(num_tokens=states, output_mode="one_hot")
        return keras.Sequential([keras.Input((1,), dtype="int32"), encoded, *layers, head])

    return build


def over_number(units: int, actions: int) -> Callable[[int], keras.Model]:
    """Return what builds a model that takes the state number as one quantity."""

    def build(states: int) -> keras.Model:
        del states
        layers = [keras.layers.Dense(units, "relu"), keras.layers.Dense(units, "relu")]
        return keras.Sequential([keras.Input((1,)), *layers, keras.layers.Dense(actions)])

    return build
