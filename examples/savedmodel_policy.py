"""Ask a SavedModel what to do in Taxi: TensorFlow alone, no Keras, no deeptaxi.

python examples/savedmodel_policy.py [FOLDER]     FOLDER: what `deeptaxi export --all` wrote; out/exports
"""

import os
import sys
from pathlib import Path

path = Path(sys.argv[1] if len(sys.argv) > 1 else "out/exports") / "savedmodel"
if not path.is_dir():
    sys.exit(f"{path} is not there. Type: deeptaxi export models/taxi-v4-dueling --all --out {path.parent}")

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
kept = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # of what TensorFlow prints at its start, some lines know no switch
try:
    import tensorflow as tf
except ModuleNotFoundError:
    sys.exit("tensorflow is not installed. Type: pip install tensorflow")
finally:
    os.dup2(kept, 2)

policy = tf.saved_model.load(path).signatures["serving_default"]

ACTIONS = ("south", "north", "east", "west", "pick up", "drop off")
STATES = {
    1: "the passenger waits here",
    97: "the passenger is aboard, and this is the destination",
    328: "the passenger waits beyond a wall",
    -1: "no state of Taxi",
    500: "no state of Taxi",
}
answer = policy(state=tf.constant(list(STATES), tf.int32))
for state, action, q_values in zip(STATES, answer["action"].numpy(), answer["q_values"].numpy(), strict=True):
    name = ACTIONS[action] if action >= 0 else "no action"
    print(f"state {state:3}, {STATES[state]}: {name} ({action}), Q = {q_values.max():.2f}")
