"""Read an export back in a separate process with its own runtime; a script, never imported by deeptaxi.

    python -P readers.py FORMAT PATH STATES BLOCK ANSWERS.npz

It computes the Q values `[S, A]` and actions `[S]` of all states 0 … S−1, BLOCK at a time, and then those of the states
−1 and S, which do not exist. deeptaxi cannot be imported meanwhile, except for the format ``keras``, whose file holds
layers of `deeptaxi.layers`. The process exits when its standard input is closed.
"""

from __future__ import annotations

import csv
import gc
import importlib
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

States = NDArray[np.int32]
Reply = tuple[NDArray[Any], NDArray[Any]]  # q_values [B, A], action [B]
Ask = Callable[[States], Reply]


def by_keras(path: str) -> Ask:
    """Load a `.keras` file in safe mode."""
    keras = importlib.import_module("keras")
    model = keras.saving.load_model(path, compile=False, safe_mode=True)

    def ask(states: States) -> Reply:
        reply = model(states, training=False)
        return tuple(keras.ops.convert_to_numpy(reply[name]) for name in ("q_values", "action"))

    return ask


def by_deeptaxi_layers(path: str) -> Ask:
    """Load a `.keras` file that holds deeptaxi's layers."""
    importlib.import_module("deeptaxi.layers")
    return by_keras(path)


def by_tensorflow(path: str) -> Ask:
    """Load a SavedModel with TensorFlow alone."""
    tf = importlib.import_module("tensorflow")
    serve = tf.saved_model.load(path).signatures["serving_default"]

    def ask(states: States) -> Reply:
        reply = serve(state=tf.constant(states))
        return reply["q_values"].numpy(), reply["action"].numpy()

    return ask


def by_onnxruntime(path: str) -> Ask:
    """Load an ONNX file with ONNX Runtime, on the CPU."""
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda states: tuple(session.run(["q_values", "action"], {"state": states}))


def by_litert(path: str) -> Ask:
    """Load a LiteRT file with its interpreter."""
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(path)
    serve = interpreter.get_signature_runner("serving_default")

    def ask(states: States) -> Reply:
        reply = serve(state=states)
        return reply["q_values"], reply["action"]

    return ask


def by_npz(path: str) -> Ask:
    """Load NumPy arrays; the last row, which −1 also reads, stands for states out of range."""
    with np.load(path, allow_pickle=False) as archive:
        policy = archive["policy"]
        q_values = archive["q_values"] if "q_values" in archive else np.empty((len(policy), 0), np.float32)
    return lambda states: (q_values[states], policy[states])


def by_rows(rows: dict[str, tuple[list[float], int]]) -> Ask:
    """Look up states by their numbers; a missing one raises KeyError."""

    def ask(states: States) -> Reply:
        found = [rows[str(state)] for state in states]
        return np.array([row for row, _ in found], np.float32), np.array([action for _, action in found], np.int32)

    return ask


def by_csv(path: str) -> Ask:
    """Read a CSV file with the standard library."""
    with open(path, newline="", encoding="utf-8") as file:  # noqa: PTH123  # as users do
        header, *lines = csv.reader(file)
    columns = [index for index, name in enumerate(header) if name.startswith("q_")]
    number, action = header.index("state"), header.index("action")
    return by_rows({line[number]: ([float(line[i]) for i in columns], int(line[action])) for line in lines})


def by_json(path: str) -> Ask:
    """Read a JSON file with the standard library; null stands for −∞."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123  # as users do
        policy = json.load(file)["policy"]
    return by_rows(
        {
            state: ([-np.inf if value is None else value for value in row.get("q_values", [])], row["action"])
            for state, row in policy.items()
        }
    )


READERS = {
    "keras": by_deeptaxi_layers,
    "plain": by_keras,
    "savedmodel": by_tensorflow,
    "onnx": by_onnxruntime,
    "litert": by_litert,
    "csv": by_csv,
    "npz": by_npz,
    "json": by_json,
}


def outside(ask: Ask, state: int, actions: int) -> tuple[NDArray[Any], int, bool]:
    """Return the answer to a state that does not exist: Q values `[A]`, action, and whether it was an error."""
    try:
        q_values, action = ask(np.array([state], np.int32))
    except Exception:  # each runtime has its own exceptions
        return np.full(actions, np.nan, np.float32), -1, True
    return q_values[0], int(action[0]), False


def end_with_parent() -> None:
    """Exit as soon as standard input is closed, which means that the parent process has ended."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(form: str, path: str, states: int, block: int, out: str) -> None:
    """Read one export and write its answers."""
    end_with_parent()
    gc.disable()  # scanning TensorFlow's objects again and again takes a third of its import time
    unwanted = "jax" if os.environ["KERAS_BACKEND"] == "tensorflow" else "tensorflow"
    sys.modules[unwanted] = None  # type: ignore[assignment]  # Keras and TensorFlow would import it needlessly
    if form != "keras":
        sys.modules["deeptaxi"] = None  # type: ignore[assignment]  # from here on, importing it fails
    ask = READERS[form](path)
    blocks = [ask(np.arange(first, min(first + block, states), dtype=np.int32)) for first in range(0, states, block)]
    q_values, actions = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    beyond = [outside(ask, state, q_values.shape[1]) for state in (-1, states)]
    names = ("outside_q_values", "outside_actions", "outside_errors")
    np.savez(out, q_values=q_values, actions=actions, **dict(zip(names, zip(*beyond, strict=True), strict=True)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
