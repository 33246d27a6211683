"""The consumers of examples/, each in a process of its own that cannot import what it says it does not need."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

import deeptaxi
from deeptaxi.exports.exporter import source_of, write
from deeptaxi.exports.q_tables import labels_of
from deeptaxi.network.tabulate import tabulate
from deeptaxi.storage.formats import FORMATS
from deeptaxi.storage.models import load_network
from tests.docs.console import blocks, commands, matches

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MODEL = ROOT / "models" / "taxi-v4-dueling"
NOT_NEEDED = {
    "onnx_policy.py": "deeptaxi keras tensorflow ai_edge_litert",
    "savedmodel_policy.py": "deeptaxi keras gymnasium",
    "litert_policy.py": "deeptaxi keras tensorflow gymnasium",
    "plain_keras.py": "deeptaxi",
}
NEEDED = {
    "onnx_policy.py": "onnxruntime",
    "savedmodel_policy.py": "tensorflow",
    "litert_policy.py": "ai_edge_litert",
    "plain_keras.py": "keras",
}
# python -c GUARD "packages that cannot be imported" script arguments
GUARD = """
import runpy, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split()))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command that each example names writes; that it can be read back is for the examples to show."""
    folder = tmp_path_factory.mktemp("exports")
    source = source_of(load_network(MODEL / "model.keras"), labels_of(deeptaxi.load(MODEL).environment))
    for name, form in FORMATS.items():
        write(source, name, folder / form.file)
    return folder


@pytest.fixture(scope="module")
def q_values() -> NDArray[np.float32]:
    """The network's own Q values, `[S, A]`."""
    return tabulate(load_network(MODEL / "model.keras"))


@pytest.fixture(scope="module")
def policy_mjs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in JavaScript, in a folder where its packages are installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed")
    folder = tmp_path_factory.mktemp("npm") / "javascript"
    shutil.copytree(EXAMPLES / "javascript", folder, ignore=shutil.ignore_patterns("node_modules"))
    done = process("npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--fetch-retries=1")
    if done.returncode:
        pytest.skip(f"npm could not install onnxruntime-web: {done.stderr[-200:]}")
    return folder / "policy.mjs"


def process(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def example(name: str, folder: Path, blocked: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    if name == "json_policy.py":
        return process(sys.executable, "-I", "-S", EXAMPLES / name, folder)  # the standard library alone
    blocked = f"{NOT_NEEDED[name]} {blocked}"
    return process(sys.executable, "-c", GUARD, blocked, EXAMPLES / name, folder, **variables)


def printed(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a process printed; assert that it ended well, and said nothing on standard error."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def shown(name: str) -> tuple[str, ...]:
    """Return what examples/README.md says that an example prints."""
    page = [command for block in blocks(EXAMPLES / "README.md") for command in commands(block.body)]
    (command,) = (command for command in page if command.line.endswith(f" examples/{name}"))
    return command.output


def assert_episode(output: str, q_values: NDArray[np.float32]) -> None:
    """Assert that an example played what the network's own Q values play."""
    environment = gymnasium.make("Taxi-v4")
    state, _ = environment.reset(seed=0)
    rewards, over = [], False
    while not over:
        state, reward, terminated, truncated, _ = environment.step(q_values[state].argmax())
        rewards.append(reward)
        over = terminated or truncated
    assert terminated
    assert f"episode of {len(rewards)} steps, return {sum(rewards)}\n" in output


def assert_answers(output: str, q_values: NDArray[np.float32]) -> None:
    """Assert that an example printed the network's own actions and values, and none outside 0 … S−1."""
    lines = re.findall(r"^state +(\d+), .*: (.*) \((\d+)\), Q = ([\d.]+)$", output, re.MULTILINE)
    assert [(int(state), name) for state, name, _, _ in lines] == [(1, "pick up"), (97, "drop off"), (328, "north")]
    for state, _, action, value in lines:
        assert int(action) == q_values[int(state)].argmax()
        assert float(value) == pytest.approx(q_values[int(state)].max(), abs=0.006)
    outside = re.findall(r"^state +(-1|500)[,:] .*(no action|no answer)", output, re.MULTILINE)
    assert [state for state, _ in outside] == ["-1", "500"]


def test_onnx_plays_the_policy_of_the_network(exports: Path, q_values: NDArray[np.float32]) -> None:
    output = printed(example("onnx_policy.py", exports))
    assert_episode(output, q_values)
    assert matches(shown("onnx_policy.py"), output)


@pytest.mark.parametrize(("backend", "blocked"), [("tensorflow", "jax"), ("jax", "tensorflow")])
def test_keras_alone_plays_the_policy_of_the_network_on_any_backend(
    backend: str, blocked: str, exports: Path, q_values: NDArray[np.float32]
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    output = printed(example("plain_keras.py", exports, blocked, KERAS_BACKEND=backend))
    assert_episode(output, q_values)
    assert matches(shown("plain_keras.py"), output.replace("Keras on jax", "Keras on tensorflow"))


@pytest.mark.parametrize("name", ["savedmodel_policy.py", "litert_policy.py", "json_policy.py"])
def test_an_example_gives_the_answers_of_the_network(name: str, exports: Path, q_values: NDArray[np.float32]) -> None:
    output = printed(example(name, exports))
    assert_answers(output, q_values)
    assert matches(shown(name), output)


def test_javascript_gives_the_answers_of_the_network(
    policy_mjs: Path, exports: Path, q_values: NDArray[np.float32]
) -> None:
    output = printed(process("node", policy_mjs, exports))
    assert_answers(output, q_values)
    assert matches(shown("javascript/policy.mjs"), output)


@pytest.mark.parametrize("name", [*NEEDED, "json_policy.py"])
def test_a_missing_export_is_reported_with_the_command_to_type(name: str, tmp_path: Path) -> None:
    done = example(name, tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"deeptaxi export models/taxi-v4-dueling --all --out {tmp_path / 'nothing'}" in line


@pytest.mark.parametrize(("name", "package"), NEEDED.items())
def test_a_missing_package_is_reported_with_the_command_to_type(name: str, package: str, exports: Path) -> None:
    done = example(name, exports, blocked=package)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "pip install" in line
    assert package.replace("_", "-") in line.partition("pip install")[2]


def test_javascript_reports_missing_files_with_the_command_to_type(
    policy_mjs: Path, exports: Path, tmp_path: Path
) -> None:
    bare = shutil.copy(policy_mjs, tmp_path)
    for script, folder, advice in [(policy_mjs, tmp_path, "deeptaxi export"), (bare, exports, "npm install")]:
        done = process("node", script, folder)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert advice in line


def test_a_network_of_ones_own_is_proven_optimal() -> None:
    done = process(sys.executable, "-W", "error::UserWarning", EXAMPLES / "own_network.py")
    assert printed(done).splitlines()[1:] == ["optimal in 300 of 300 start states", "return 7.9300 of 7.9300"]
