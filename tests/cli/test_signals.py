from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from deeptaxi.cli import signals
from tests.cli.conftest import LAKE, QUICK

TypeIn = Callable[..., Result]


def test_a_signal_whose_exception_was_lost_is_not_forgotten() -> None:
    with signals.ending_at_once():
        with pytest.raises(SystemExit):  # as a callback of compiled code would swallow it
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as ended, signals.stopping_gently():
            pass
    assert ended.value.code == 143


def test_outside_a_command_signals_are_handled_as_before() -> None:
    before = [signal.getsignal(number) for number in signals.ENDING]
    with signals.ending_at_once(), signals.stopping_gently() as received:
        assert received() == 0
    assert [signal.getsignal(number) for number in signals.ENDING] == before


def test_a_closing_terminal_is_handled_once() -> None:
    """The kernel sends SIGHUP, and so does the shell: the second must not break off what the first has begun."""
    with signals.ending_at_once():
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
    assert ended.value.code == 129


def test_signals_ignored_by_nohup_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.ending_at_once(), signals.stopping_gently() as received:
        os.kill(os.getpid(), signal.SIGHUP)
        assert received() == 0
        os.kill(os.getpid(), signal.SIGXCPU)
        assert received() == signal.SIGXCPU
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


class Gone(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    flush = close = lambda self: self.write("")  # type: ignore[assignment]


def test_a_closed_standard_error_causes_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    with signals.lasting_streams():
        assert sys.stderr.write("Stopping") == 8
        sys.stderr.flush()
        with signals.ending_at_once(), signals.stopping_gently() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received() == signal.SIGHUP
    assert isinstance(sys.stderr, Gone)


def test_a_training_whose_terminal_closes_keeps_its_run(type_in: TypeIn) -> None:
    log = Path("logs/a/metrics.jsonl")

    def hang_up() -> None:
        deadline = time.monotonic() + 60
        while not (log.exists() and "evaluation" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)

    watcher = threading.Thread(target=hang_up)
    watcher.start()
    done = type_in("train", *LAKE, "--q-table", *QUICK, "--updates", 10**7, "--no-early-stop", "--out", "a", "--json")
    watcher.join()
    assert done.exit_code == 129, done.output
    assert json.loads(done.stdout)["stopped"] == "interrupted"
    assert done.stderr.endswith("Resume with: deeptaxi train --resume a\n")
    assert Path("a/model.keras").exists()


def test_the_descriptors_of_closed_streams_are_not_reused(tmp_path: Path) -> None:
    code = """
import os, sys
from deeptaxi.cli import signals
with signals.lasting_streams():
    number = os.open("kept", os.O_CREAT | os.O_WRONLY)
    print("x", file=sys.stderr); sys.stdin.read()
sys.exit(number if number > 2 else 99)
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], cwd=tmp_path, check=False)
    assert done.returncode == 3
