"""Commands on a real terminal, one that a test holds the other end of."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager

import pytest

from deeptaxi.metrics import read_history
from deeptaxi.storage.logs import find_log
from tests.cli.conftest import QUICK

pytestmark = pytest.mark.slow


class Terminal:
    """A process on a pseudo-terminal, and what it has shown so far."""

    def __init__(self, words, folder, width, own=False):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deeptaxi", *words],
            cwd=folder,
            env={**environment, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=self.take if own else None,  # nothing in it takes a lock
        )
        os.close(slave)
        self.shown = ""

    @staticmethod
    def take():
        """Let it be the terminal of the process, so that closing it hangs up, also where the tests run under nohup."""
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def hang_up(self):
        os.close(self._master)
        self._master = None
        return self.process.wait(timeout=60)

    def read(self, seconds=0.2):
        """Take what is shown within so long; return whether there may be more."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            self.shown += os.read(self._master, 65536).decode(errors="replace")
        except OSError:  # the other end is closed
            return False
        return True

    def wait_for(self, pattern, seconds=60):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.shown) and time.monotonic() < deadline and self.read():
            pass
        assert re.search(pattern, self.shown), self.shown[-2000:]

    def type(self, keys, seconds=60):
        # What is typed before the command waits for a key is thrown away, as on any terminal that turns raw.
        deadline = time.monotonic() + seconds
        while termios.tcgetattr(self._master)[3] & termios.ICANON and time.monotonic() < deadline:
            time.sleep(0.01)
        os.write(self._master, keys.encode())

    def end(self):
        while self.read():
            pass
        return self.process.wait(timeout=60)

    def close(self):
        self.process.kill()
        self.process.wait()
        if self._master is not None:
            os.close(self._master)


@contextmanager
def terminal(*words, folder, width=80, own=False):
    opened = Terminal([str(word) for word in words], folder, width, own)
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.parametrize("width", [40, 100])
def test_a_training_is_watched_and_stopped(tmp_path, width):
    words = ["train", "Taxi-v4", "--no-early-stop", "--updates", 10**5, "--out", "a"]
    with terminal(*words, folder=tmp_path, width=width) as screen:
        screen.wait_for(r"of 100,000 updates, [\d:]+ (s|min|h) left")
        screen.wait_for("TD error")
        screen.wait_for("value ")
        os.kill(screen.process.pid, signal.SIGINT)
        assert screen.end() == 130
    assert "Stopping and keeping the best weights" in " ".join(screen.shown.split())
    assert "Interrupted after update" in screen.shown
    assert (tmp_path / "a" / "model.keras").exists()
    assert read_history(find_log(tmp_path / "a") / "metrics.jsonl").finished.stopped == "interrupted"


def test_a_training_whose_terminal_closes_keeps_its_run(tmp_path):
    words = [
        "train",
        "FrozenLake-v1",
        "--q-table",
        *QUICK,
        "--eval-every",
        1_000,
        "--updates",
        10**8,
        "--no-early-stop",
        "--out",
        "a",
    ]
    with terminal(*words, folder=tmp_path, own=True) as screen:
        screen.wait_for("value ")
        assert screen.hang_up() == 129
    assert (tmp_path / "a" / "model.keras").exists()
    assert read_history(find_log(tmp_path / "a") / "metrics.jsonl").finished.stopped == "interrupted"
    assert not list(tmp_path.rglob(".lock"))


def test_episodes_advance_by_keys(tmp_path, lake_run):
    with terminal("watch", lake_run, "--step", folder=tmp_path) as screen:
        screen.wait_for("Episode 1, step 0: return 0")
        screen.type(" ")
        screen.wait_for("Episode 1, step 1: return 0")
        screen.type("q")
        assert screen.end() == 0
    assert "step 2" not in screen.shown


def test_a_quiet_training_shows_its_result_alone(tmp_path):
    words = ["train", "FrozenLake-v1", "--loop", "gymnasium", "--q-table", *QUICK, "--updates", 40]
    with terminal(*words, "--quiet", "--out", "a", folder=tmp_path) as screen:
        assert screen.end() == 0
    assert "━" not in screen.shown
    assert "Preset" not in screen.shown
    assert "Weights digest" in screen.shown
