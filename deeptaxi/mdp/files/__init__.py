"""Decision processes in the files and values of others.

`read.read_table_file` reads any of them as a `TransitionTable`, `read.as_transition_table` the values of Python.
"""

from __future__ import annotations

from pathlib import Path

READ = (".npz", ".mat", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".tra", ".mdp")
REFUSED = (".npy", ".pkl", ".pickle", ".joblib", ".pomdp")  # each in a line that says why, and what to do


def is_table_file(name: str) -> bool:
    """Whether the name of an environment is that of a file with a table, by its ending."""
    return Path(name).suffix.lower() in (*READ, *REFUSED)
