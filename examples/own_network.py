"""Train a Keras model of your own on Taxi, and prove how good it is: an embedding, a dense layer, a dueling head.

python examples/own_network.py [SEED]

From the command line: deeptaxi train Taxi-v4 --network examples/own_network.py:build
"""

import sys

import deeptaxi
from deeptaxi.layers import Dueling  # before Keras, which then starts quietly and on one thread

# isort: split
import keras


def build(states, actions, width=64):
    """Return a model from state numbers `[B]` to Q values `[B, A]`."""
    state = keras.Input((), dtype="int32")
    x = keras.layers.Embedding(states, 16)(state)
    x = keras.layers.Dense(width, "relu")(x)
    value, advantage = keras.layers.Dense(1)(x), keras.layers.Dense(actions)(x)
    return keras.Model(state, Dueling()([value, advantage]))


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    run = deeptaxi.train("Taxi-v4", network=build, seed=seed, eval_every=100)  # it ends soon after it is optimal
    exact = run.exact
    print(f"{run.network.count_params():,} weights, {run.finished.updates:,} updates")
    print(f"optimal in {exact['optimal_start_states']} of {exact['start_states']} start states")
    print(f"return {exact['return']:.4f} of {exact['optimal_return']:.4f}")
