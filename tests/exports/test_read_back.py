"""The processes that read exports back."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deeptaxi.errors import DeepTaxiError
from deeptaxi.exports import read_back
from deeptaxi.exports.read_back import Answers, Comparison, compare, readings, tolerance
from deeptaxi.exports.writers import WRITERS
from deeptaxi.io.atomic import TEMPORARY
from deeptaxi.storage.formats import FORMATS
from tests.exports.networks import A, S, source

WITHOUT_DEEPTAXI = """
import sys
sys.modules["deeptaxi"] = None
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1], safe_mode=True)
reply = model(np.arange(-1, int(sys.argv[2]) + 1))
np.savez(sys.argv[3], **{name: keras.ops.convert_to_numpy(values) for name, values in reply.items()})
"""


@pytest.mark.parametrize("name", ["onnx", "litert", "csv", "npz", "json"])
def test_a_separate_process_answers_for_all_states_in_blocks(name: str, tmp_path: Path) -> None:
    written = source("dueling")
    WRITERS[name](written, tmp_path / FORMATS[name].file)
    with readings() as reader:
        reader.start(name, tmp_path / FORMATS[name].file, S, 7)
        answers = reader.answers(name)
    np.testing.assert_allclose(answers.q_values, written.q_values, rtol=1e-5)
    assert np.array_equal(answers.actions, written.q_values.argmax(axis=1))
    assert answers.outside_q_values.shape == (2, A)


@pytest.mark.slow
def test_a_reader_of_plain_files_knows_no_layer_of_ours(tmp_path: Path) -> None:
    WRITERS["keras"](source("dueling"), tmp_path / "model.keras")
    with readings() as reader:
        reader.start("plain", tmp_path / "model.keras", S, S)
        with pytest.raises(
            DeepTaxiError, match=r"the plain export cannot be read back, so it was not kept: .*OneHotDense"
        ):
            reader.answers("plain")


def test_an_unreadable_file_is_reported_by_its_reader_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "q_table.json").write_text("{]")
    with readings() as reader:
        reader.start("json", tmp_path / "q_table.json", S, S)
        with pytest.raises(
            DeepTaxiError, match=r"the json export cannot be read back.*: json\.decoder\.JSONDecodeError"
        ):
            reader.answers("json")


def test_a_reader_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_back, "LIMIT", 0.01)
    WRITERS["npz"](source("dueling"), tmp_path / "q.npz")
    with readings() as reader:
        reader.start("npz", tmp_path / "q.npz", S, S)
        with pytest.raises(DeepTaxiError, match=r"took more than 0\.01 s, so it was not kept"):
            reader.answers("npz")
    assert reader.processes["npz"].poll() is not None


def test_the_readers_of_a_killed_process_end_and_the_next_process_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader waits on a pipe that nobody writes to."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    os.mkfifo(tmp_path / "never.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks where threads run; this one only waits
        number = os.fork()
    if not number:  # only to start the reader and be killed
        try:
            with readings() as reader:
                reader.start("json", tmp_path / "never.json", S, S)
                (tmp_path / "reader").write_text(str(reader.processes["json"].pid))
                signal.pause()
        finally:
            os._exit(1)  # whatever failed: this copy of the tests must not go on with them
    try:
        until((tmp_path / "reader").exists)
        until(lambda: (tmp_path / "reader").read_text() != "")
        reading_process = int((tmp_path / "reader").read_text())
        time.sleep(0.5)  # its interpreter starts
        assert alive(reading_process)
    finally:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
    until(lambda: not alive(reading_process))
    (left,) = tmp_path.glob(f"{TEMPORARY}*")
    with readings():
        assert not left.exists()


def until(reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < limit
        time.sleep(0.02)


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended may wait for a parent to ask for its end."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])  # on TensorFlow, `export` itself reads it so
def test_bare_keras_reads_a_plain_file_on_other_backends(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    written = source("factored")
    WRITERS["plain"](written, tmp_path / "plain.keras")
    words = [sys.executable, "-c", WITHOUT_DEEPTAXI, tmp_path / "plain.keras", str(S), tmp_path / "reply.npz"]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "reply.npz") as reply:
        np.testing.assert_allclose(reply["q_values"][1:-1], written.q_values, rtol=1e-4, atol=1e-4)
        assert reply["action"].tolist() == [-1, *written.q_values.argmax(axis=1), -1]
        assert np.isnan(reply["q_values"][[0, -1]]).all()


INF, NAN = np.inf, np.nan
Q = np.array([[1.0, 2.0], [-INF, 3.0], [4.0, 4.0]], np.float32)
SOUND = Answers(Q, np.array([1, 1, 0]), np.full((2, 2), NAN, np.float32), np.array([-1, -1]), np.array([False, False]))


def test_the_same_answers_differ_by_nothing() -> None:
    assert compare(FORMATS["keras"], SOUND, Q) == Comparison(0.0, 0)


def test_a_different_action_is_counted_only_as_a_tie() -> None:
    assert compare(FORMATS["keras"], SOUND._replace(actions=np.array([1, 1, 1])), Q) == Comparison(0.0, 1)


def test_rounding_is_tolerated_only_for_formats_that_round() -> None:
    rounded = SOUND._replace(q_values=Q + np.float32([[0, 0], [0, 0], [0, -2e-6]]))
    found = compare(FORMATS["onnx"], rounded, Q)  # 2e-6 of 4 at most
    assert found.max_difference == pytest.approx(2e-6, rel=0.2)
    with pytest.raises(DeepTaxiError, match=r"keras export differs from the model by 1\.9"):
        compare(FORMATS["keras"], rounded, Q)
    assert tolerance(FORMATS["litert"], Q) == pytest.approx(4e-6)
    assert tolerance(FORMATS["litert"], Q / 100) == 1e-6


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"q_values": Q[:2]}, "differs from the model by inf"),
        ({"q_values": np.float32([[1, 2], [-3.4e38, 3], [4, 4]])}, "differs from the model by inf"),
        ({"q_values": np.float32([[1, 2], [-INF, NAN], [4, 4]])}, "differs from the model by inf"),
        ({"actions": np.array([0, 1, 0])}, "'s actions contradict its Q values in 1 states, such as 0"),
        ({"actions": np.array([1, 0, 0])}, "'s actions contradict its Q values in 1 states, such as 1"),
        ({"actions": np.array([1, 1, 2])}, "'s actions contradict its Q values in 1 states, such as 2"),
        ({"actions": np.array([-1, 1, 0])}, "'s actions contradict its Q values"),
        ({"outside_actions": np.array([-1, 0])}, "should give NaN and action −1 for states that do not exist"),
        ({"outside_q_values": np.float32([[NAN, NAN], [NAN, 0]])}, "should give NaN and action −1"),
        ({"outside_errors": np.array([True, True])}, "should give NaN and action −1"),
    ],
)
def test_wrong_answers_are_refused(changed: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DeepTaxiError, match=f"the plain export.*{said}"):
        compare(FORMATS["plain"], SOUND._replace(**changed), Q)


def test_a_table_without_the_row_must_raise() -> None:
    assert compare(FORMATS["csv"], SOUND._replace(outside_errors=np.array([True, True])), Q) == Comparison(0.0, 0)
    with pytest.raises(DeepTaxiError, match="should give error"):
        compare(FORMATS["csv"], SOUND, Q)
