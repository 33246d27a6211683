"""Play an episode of Taxi by ONNX Runtime: no TensorFlow, no Keras, no deeptaxi.

python examples/onnx_policy.py [FOLDER]     FOLDER: what `deeptaxi export --all` wrote; out/exports
"""

import sys
from pathlib import Path

path = Path(sys.argv[1] if len(sys.argv) > 1 else "out/exports") / "model.onnx"
if not path.is_file():
    sys.exit(f"{path} is not there. Type: deeptaxi export models/taxi-v4-dueling --all --out {path.parent}")

try:
    import gymnasium
    import numpy as np
    import onnxruntime
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed. Type: pip install onnxruntime gymnasium")

session = onnxruntime.InferenceSession(path)


def policy(states):
    """Return Q values `[B, A]` and greedy actions `[B]` of state numbers `[B]`."""
    return session.run(["q_values", "action"], {"state": np.array(states, dtype=np.int32)})


environment = gymnasium.make("Taxi-v4")
state, _ = environment.reset(seed=0)
rewards, over = [], False
while not over:
    _, actions = policy([state])
    state, reward, terminated, truncated, _ = environment.step(actions[0])
    rewards.append(reward)
    over = terminated or truncated
print(f"An episode of {len(rewards)} steps, return {sum(rewards)}")

for state, q_values, action in zip((328, -1, 500), *policy([328, -1, 500]), strict=True):
    print(f"state {state:3}: action {action:2}, Q values {[round(float(value), 2) for value in q_values]}")
