from __future__ import annotations

import os
import signal

import pytest

from deeptaxi.cli import signals


def test_a_signal_whose_exception_was_lost_is_not_forgotten() -> None:
    with signals.ending_at_once():
        with pytest.raises(SystemExit):  # as a callback of compiled code would swallow it
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as ended, signals.stopping_gently():
            pass
    assert ended.value.code == 143


def test_outside_of_a_command_everything_is_as_before() -> None:
    before = [signal.getsignal(number) for number in signals.ENDING]
    with signals.ending_at_once(), signals.stopping_gently() as received:
        assert received() == 0
    assert [signal.getsignal(number) for number in signals.ENDING] == before
