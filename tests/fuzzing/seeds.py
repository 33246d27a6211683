"""Sound files of every kind, made once by deeptaxi itself, from which broken ones are made."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.fuzzing.hostile import write_forbidden

LAKE = ["FrozenLake-v1", "--env-arg", "is_slippery=false"]
QUICK = [
    "--updates", "12", "--eval-every", "4", "--environments", "2", "--batch-size", "8", "--replay-capacity", "256",
    "--replay-start", "8", "--no-early-stop", "--exploring-starts", "0",
]  # fmt: skip
RUNS = {
    "q": ["--q-table", "--loop", "gymnasium"],
    "d": ["--hidden", "8", "--dueling", "--loop", "fit"],
    "table": ["--q-table", "--loop", "gymnasium", "--stop-after", "8"],
    "gymnasium": ["--hidden", "8", "--loop", "gymnasium", "--stop-after", "8", "--prioritized"],
    "fit": ["--q-table", "--loop", "fit", "--stop-after", "8"],
}


def make(folder: Path) -> None:
    """Fill the current folder, which is `folder`; Keras computes, so do it in a process of its own."""
    from deeptaxi.cli.main import cli

    for name, words in RUNS.items():
        try:
            cli.main(["train", *LAKE, *QUICK, *words, "--json", "--out", f"models/{name}"])
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"the run '{name}' ended with {end.code}") from None
    for name in ("table", "fit"):  # nothing to fall back to
        (folder / f"models/{name}/checkpoints/000001.npz").unlink()
    make_table(folder / "table.npz")
    make_foreign(folder / "tables")
    make_models(folder)
    write_forbidden(folder)
    shutil.copy(folder / "models/q/config.toml", folder / "settings.toml")


def make_table(path: Path) -> None:
    """Write a table with all that a table may carry."""
    import dataclasses

    import numpy as np

    from deeptaxi.config import EnvironmentConfig
    from deeptaxi.mdp.environment import open_environment

    lake = open_environment(EnvironmentConfig("FrozenLake-v1")).table
    mask = np.ones((16, 4), bool)
    mask[3, 0] = False
    optional = {"time_limit": 50, "discount": 0.9, "action_mask": mask, "factors": (4, 4)}
    names = {"state_names": [f"cell {i}" for i in range(16)], "action_names": ["left", "down", "right", "up"]}
    dataclasses.replace(lake, **optional, **names).save(path)


FOREIGN = ("rows.csv", "log.csv", "p.json", "rows.jsonl", "pr.npz", "pr.mat", "rows.parquet", "m.tra", "m.mdp")


def make_foreign(folder: Path) -> None:
    """Write a table in each of the forms of others."""
    import json

    import numpy as np
    import pyarrow
    from pyarrow import parquet
    from scipy import io

    folder.mkdir()
    rows = {
        "state": [0, 0, 1], "action": [0, 1, 0], "next_state": [1, 0, 1], "probability": [1.0, 1.0, 1.0],
        "reward": [0.0, 1.5, 4.0], "terminated": [False, True, True],
    }  # fmt: skip
    lines = [",".join(map(str, row)) for row in zip(*rows.values(), strict=True)]
    logged = [f"{episode},{line}" for episode in range(3) for line in lines]
    matrices = {"P": np.array([[[0.5, 0.5], [0, 1]], [[1, 0], [0.25, 0.75]]]), "R": np.array([[1.0, 0], [0, 2]])}
    texts = {
        "rows.csv": "\n".join([",".join(rows), *lines]),
        "log.csv": "\n".join(["episode,state,action,next_state,weight,reward,terminated", *logged]),
        "p.json": json.dumps({name: value.tolist() for name, value in matrices.items()}),
        "rows.jsonl": "\n".join(
            json.dumps(dict(zip(rows, row, strict=True))) for row in zip(*rows.values(), strict=True)
        ),
        "m.tra": "2 3 4\n0 0 0 0.5 go\n0 0 1 0.5 go\n0 1 0 1 stay\n1 0 1 1 go\n",
        "m.srew": "2 1\n0 -1\n",
        "m.mdp": "discount: 0.9\nvalues: cost\nstates: 2\nactions: go\nT: go\n0 1 0.5 0.5\nR: go : 0 : * : * 1.0\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    np.savez(folder / "pr.npz", **matrices)
    io.savemat(folder / "pr.mat", matrices, do_compression=True)
    parquet.write_table(pyarrow.table(rows), folder / "rows.parquet")


def optimal_q_values() -> Any:
    """Return the optimal Q values of a FrozenLake that does not slip, float32 `[S, A]`."""
    from deeptaxi.config import EnvironmentConfig
    from deeptaxi.mdp.environment import open_environment
    from deeptaxi.mdp.planning import value_iteration

    lake = EnvironmentConfig("FrozenLake-v1", {"is_slippery": False})
    return value_iteration(open_environment(lake).table, 0.99).q.astype("float32")


def make_models(folder: Path) -> None:
    """Write an optimal table, an exported agent with a mask, the same in Keras' layers, and a model from elsewhere."""
    import keras
    import numpy as np

    from deeptaxi.network.build import build_q_network, with_mask
    from deeptaxi.network.plain import plain_network
    from deeptaxi.network.policy_model import agent

    network = build_q_network(16, 4)
    network.set_weights([optimal_q_values()])
    network.save(folder / "optimal.keras")
    network = with_mask(build_q_network(16, 4, (8,), dueling=True, factors=(4, 4)), np.eye(16, 4, dtype=bool) | True)
    agent(network, 16).save(folder / "agent.keras")
    agent(plain_network(network), 16).save(folder / "plain.keras")
    state = keras.Input((), dtype="int32")
    hidden = keras.layers.Dropout(0.1)(keras.layers.Dense(8, "relu")(keras.layers.Embedding(16, 4)(state)))
    keras.Model(state, keras.layers.Dense(4)(keras.layers.BatchNormalization()(hidden))).save(folder / "foreign.keras")
