"""Train a Keras model of your own by the recipe, in twelve lines of plain Keras, and have it judged exactly.

python examples/recipe_by_hand.py     (FrozenLake without slipping, a quarter of a minute)
"""

import deeptaxi
from deeptaxi.layers import Dueling, OneHotDense  # before Keras, which then starts quietly and on one thread
from deeptaxi.recipe import learning_rate_of, overwrite, td_targets

# isort: split
import gymnasium
import keras
import numpy as np

DISCOUNT = 0.9
env = gymnasium.make("FrozenLake-v1", is_slippery=False)
S, A = int(env.observation_space.n), int(env.action_space.n)

# A replay buffer: what 5,000 random actions met, each transition once. A time limit is no end: only `terminated` is.
replay, state = {}, env.reset(seed=0)[0]
for action in np.random.default_rng(0).integers(A, size=5_000).tolist():
    next_state, reward, terminated, truncated, _ = env.step(action)
    replay[state, action] = (state, action, reward, next_state, terminated)
    state = env.reset()[0] if terminated or truncated else next_state
states, actions, rewards, next_states, terminated = (np.array(column) for column in zip(*replay.values(), strict=True))
B = len(states)

# A network by hand, its head V + A − mean(A), and a copy of it for the targets.
keras.utils.set_random_seed(0)
state = keras.Input((), dtype="int32")
hidden = OneHotDense(64, S, "tanh", use_bias=False)(state)
q_values = Dueling()([keras.layers.Dense(1, use_bias=False)(hidden), keras.layers.Dense(A, use_bias=False)(hidden)])
online = keras.Model(state, q_values, name="by_hand")
online.compile(keras.optimizers.SGD(learning_rate_of(0.1, A, B)), "mse")
target = keras.models.clone_model(online)

# The recipe: predict, overwrite the entry of the action taken, fit the minibatch in one step.
for update in range(40):
    if update % 4 == 0:
        target.set_weights(online.get_weights())
    td_target = td_targets(rewards, DISCOUNT * (1 - terminated), target.predict(next_states, verbose=0))
    targets = overwrite(online.predict(states, verbose=0), actions, td_target)
    online.fit(states, targets, batch_size=B, shuffle=False, verbose=0)

print(deeptaxi.evaluate(online, env, episodes=0, objective_discount=DISCOUNT))
