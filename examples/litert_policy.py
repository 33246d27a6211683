"""Ask a LiteRT model what to do in Taxi: its runtime alone, as on a phone or a small board; no TensorFlow.

python examples/litert_policy.py [FOLDER]     FOLDER: what `deeptaxi export --all` wrote; out/exports
"""

import sys
from pathlib import Path

path = Path(sys.argv[1] if len(sys.argv) > 1 else "out/exports") / "model.tflite"
if not path.is_file():
    sys.exit(f"{path} is not there. Type: deeptaxi export models/taxi-v4-dueling --all --out {path.parent}")

try:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
except ModuleNotFoundError:
    sys.exit("ai_edge_litert is not installed. Type: pip install ai-edge-litert")

plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # so small a network gains nothing from a delegate
policy = Interpreter(str(path), experimental_op_resolver_type=plain).get_signature_runner("serving_default")

ACTIONS = ("south", "north", "east", "west", "pick up", "drop off")
STATES = {
    1: "the passenger waits here",
    97: "the passenger is aboard, and this is the destination",
    328: "the passenger waits beyond a wall",
    -1: "no state of Taxi",
    500: "no state of Taxi",
}
answer = policy(state=np.array(list(STATES), dtype=np.int32))
for state, action, q_values in zip(STATES, answer["action"], answer["q_values"], strict=True):
    name = ACTIONS[action] if action >= 0 else "no action"
    print(f"state {state:3}, {STATES[state]}: {name} ({action}), Q = {q_values.max():.2f}")
