from __future__ import annotations

import math
import os
import platform
from pathlib import Path

import pytest

from deeptaxi import machine

LINUX = pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="/proc/cpuinfo is not installed")
FACTS = {
    "model name": "A 1", "cpu family": "6", "model": "7", "stepping": "1", "flags": "fpu sse", "cpu MHz": "2600",
}  # fmt: skip


@LINUX
def test_the_facts_are_those_of_the_first_processor() -> None:
    first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    assert len(machine.cpu_facts()) == len({line.partition(":")[0].strip() for line in first})


def test_a_processor_is_told_by_name_model_and_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_facts", lambda: FACTS)
    known = machine.processor()
    assert known.startswith("A 1, cpu family 6, model 7, stepping 1, instruction sets ")
    monkeypatch.setattr(machine, "cpu_facts", lambda: {**FACTS, "flags": "fpu sse avx"})
    assert machine.processor() != known
    monkeypatch.setattr(machine, "cpu_facts", dict)
    assert machine.processor() == platform.processor()


def test_compiled_code_is_for_a_processor_and_not_for_its_speed_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_facts", lambda: FACTS)
    target = machine.compiler_target()
    assert target[:2] == [platform.system(), platform.machine()]
    assert "flags: fpu sse" in target
    assert not any("2600" in trait for trait in target)
    monkeypatch.setattr(machine, "cpu_facts", dict)
    assert machine.compiler_target()[3:] == [platform.processor(), platform.node()]


def test_a_share_of_the_memory_can_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "physical_memory", lambda: 10 * 2.0**30)
    assert machine.memory_exceeded(8 * 2**30) is None
    assert machine.memory_exceeded(8 * 2**30 + 1) == "this machine has 10.0 GiB"
    monkeypatch.setattr(machine, "physical_memory", lambda: math.inf)
    assert machine.memory_exceeded(2**60) is None


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="the system does not tell how much memory it has")
def test_a_machine_has_memory() -> None:
    assert 2**27 < machine.physical_memory() < 2**50
