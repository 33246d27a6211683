"""Play an episode of Taxi by a model of Keras' own layers: Keras alone, on any of its backends; no deeptaxi.

KERAS_BACKEND=jax python examples/plain_keras.py [FOLDER]     FOLDER: what `deeptaxi export --all` wrote; out/exports
"""

import os
import sys
from pathlib import Path

path = Path(sys.argv[1] if len(sys.argv) > 1 else "out/exports") / "plain.keras"
if not path.is_file():
    sys.exit(f"{path} is not there. Type: deeptaxi export models/taxi-v4-dueling --all --out {path.parent}")

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
kept = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # of what TensorFlow prints at its start, some lines know no switch
try:
    import gymnasium
    import keras
    import numpy as np
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed. Type: pip install keras tensorflow gymnasium")
finally:
    os.dup2(kept, 2)

policy = keras.saving.load_model(path, safe_mode=True)  # safe: the file holds no code that loading would run

environment = gymnasium.make("Taxi-v4")
state, _ = environment.reset(seed=0)
rewards, over = [], False
while not over:
    action = int(policy(np.array([state]))["action"][0])
    state, reward, terminated, truncated, _ = environment.step(action)
    rewards.append(reward)
    over = terminated or truncated
print(f"Keras on {keras.backend.backend()}: an episode of {len(rewards)} steps, return {sum(rewards)}")

answer = policy(np.array([-1, 500]))
print(f"states -1 and 500: actions {keras.ops.convert_to_numpy(answer['action']).tolist()}")
