"""Read a policy as JSON, in plain Python: the standard library alone.

python examples/json_policy.py [FOLDER]     FOLDER: what `deeptaxi export --all` wrote; out/exports
"""

import json
import sys
from pathlib import Path

path = Path(sys.argv[1] if len(sys.argv) > 1 else "out/exports") / "q_table.json"
if not path.is_file():
    sys.exit(f"{path} is not there. Type: deeptaxi export models/taxi-v4-dueling --all --out {path.parent}")
table = json.loads(path.read_text(encoding="utf-8"))

print(f"{table['environment']['id']}: {table['states']} states, actions {', '.join(table['actions'])}")
for state in (1, 97, 328, -1, 500):
    answer = table["policy"].get(str(state))
    if answer is None:
        print(f"state {state:3}: not a state, so there is no answer")
    else:
        allowed = [value for value in answer["q_values"] if value is not None]  # null: an action that is not allowed
        print(
            f"state {state:3}, {answer['name']}: {answer['action_name']} ({answer['action']}), Q = {max(allowed):.2f}"
        )
