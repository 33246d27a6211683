"""The short form of a campaign of broken files, and that it would notice what it looks for."""

from __future__ import annotations

import contextlib
import importlib
import random
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from deeptaxi.network.build import build_q_network
from tests.fuzzing import graphs, hostile, mutants, readers
from tests.fuzzing.campaign import cases
from tests.fuzzing.seeds import optimal_q_values

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_broken_files_are_read_or_refused_in_one_line():
    words = [sys.executable, "-m", "tests.fuzzing", "--count", "48", "--seed", "1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert {row[0] for row in rows} == set(readers.KINDS)
    assert sum(int(row[1]) for row in rows) == 48


@pytest.mark.parametrize("kind", readers.KINDS)
def test_the_same_number_breaks_a_file_in_the_same_way(kind):
    sound = {"model": b"PK", "card": b'{"a": [1, 2]}', "log": b'{"kind": "started"}\n', "config": b"seed = 0\n"}
    for act, _ in readers.KINDS[kind].breaks[:1]:
        if kind in ("model", "graph", "table", "checkpoint", "foreign", "link"):
            continue
        broken = [act(random.Random("7"), sound[kind]) for _ in range(2)]
        assert broken[0] == broken[1]
        assert any(act(random.Random(str(number)), sound[kind]) != sound[kind] for number in range(5))


def test_graphs_are_rebuilt_and_a_false_verdict_on_one_is_noticed(tmp_path):
    network = build_q_network(16, 4)
    network.set_weights([optimal_q_values()])
    network.save(tmp_path / "sound.keras")
    network = keras.Model(network.input, keras.ops.negative(network.output))
    network.save(tmp_path / "negative.keras")
    for name, said, false in (
        ("sound", "its policy is optimal", False),
        ("sound", "its policy is not optimal", True),
        ("negative", '"optimal": true', True),
        ("negative", "Optimal   no: 0 of 1", False),
        ("negative", "no verdict", False),
    ):
        assert bool(graphs.false_verdicts(["diagnose", str(tmp_path / f"{name}.keras")], said)) == false
    content = (tmp_path / "sound.keras").read_bytes()
    made = {graphs.around_table(random.Random(str(number)), content) for number in range(3)}
    assert len({*made, content}) == 4


def test_kinds_come_in_turns():
    found = list(cases(24, 0, tuple(readers.KINDS)))
    assert {case.kind for case in found[: len(readers.KINDS)]} == set(readers.KINDS)
    assert len(set(found)) == 24


@pytest.mark.parametrize(
    ("code", "err", "fault"),
    [
        (1, "Error: unexpected KeyError: 'x' (--debug shows where)\n", "unexpected KeyError"),
        (0, "x.py:3: RuntimeWarning: Mean of empty slice\n", "RuntimeWarning"),
        (1, "Traceback (most recent call last):\nError: x\n", "Traceback"),
        (2, "Error: one\nError: two\n", "other than one line"),
        (1, "", "other than one line"),
        (134, "Error: x\n", "it ended with 134"),
        (0, "Error: x\n", "went on after an error"),
        (1, "Error: x\x1b[2J\n", "what a terminal obeys"),
        (1, "Error: not enough memory: x\n", "not enough memory"),
    ],
)
def test_faults_of_a_command_are_noticed(code, err, fault):
    assert any(fault in found for found in readers.faults(code, "", err, as_json=False))


def test_allowed_results_of_a_command_are_no_faults():
    assert readers.faults(0, '{"a": null}', "Warning: untrained: …\n", as_json=True) == []
    assert readers.faults(2, "", "Skipped in x: line 3\nError: no model at x\n", as_json=True) == []
    assert readers.faults(0, '{"a": NaN}', "", as_json=True) == ["its JSON holds NaN"]


def test_the_hostile_files_would_run_code_if_nothing_stopped_them(tmp_path, monkeypatch):
    import io
    import pickle

    import numpy as np

    monkeypatch.chdir(tmp_path)
    for read in (
        lambda: np.load(io.BytesIO(hostile.pickled_array()), allow_pickle=True),
        lambda: pickle.loads(pickle.dumps(hostile.Pickled())),  # noqa: S301  # it is our own
        lambda: exec(hostile.MODULE),  # noqa: S102  # likewise
    ):
        read()
        assert (tmp_path / hostile.SIGN).exists()
        (tmp_path / hostile.SIGN).unlink()


MUJOCO = ["gymnasium.envs.mujoco.mujoco_env"] if "mujoco" in hostile.imported_by_gymnasium() else []


@pytest.mark.parametrize("module", ["evil", "evil_package", "evil_package.evil", *MUJOCO])
def test_the_forbidden_module_would_be_imported_if_nothing_stopped_it(tmp_path, monkeypatch, module):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    hostile.write_forbidden(tmp_path)
    before = set(sys.modules)
    try:
        with contextlib.suppress(Exception):  # MuJoCo has more in it
            importlib.import_module(module)
        assert (tmp_path / hostile.SIGN).exists()
    finally:
        for name in sys.modules.keys() - before:
            del sys.modules[name]


def test_settings_name_modules_of_every_kind():
    settings = b'[environment]\nid = "FrozenLake-v1"\n'
    broken = [hostile.module_in_settings(random.Random(str(number)), settings).decode() for number in range(400)]
    named = {line.split('"')[1].rpartition(":")[0] for text in broken for line in text.splitlines() if "id = " in line}
    assert {"evil", "gymnasium", "gymnasium.evil"} < named
    assert named & set(hostile.imported_by_gymnasium())
    assert {name for name in named if name.startswith("gymnasium.envs.")} & set(hostile.installed_modules())
    assert named & sys.stdlib_module_names


def test_broken_settings_are_still_toml():
    texts = {mutants.as_toml(random.Random(str(number)), b"[replay]\ncapacity = 3\n") for number in range(50)}
    assert len(texts) > 30
