from __future__ import annotations

from pathlib import Path

import pytest

from deeptaxi.backend.exactness import COMMON, VARIABLES, flags


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*COMMON, *(name for names in VARIABLES.values() for name in names)}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("backend", VARIABLES)
def test_usual_flags_are_not_reported(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert flags(backend) == {}
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory='/a b/working-1'")  # as `backend` does
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", " ")
    assert flags(backend) == {}


def test_each_backend_has_flags_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XLA_FLAGS", "TF_XLA_FLAGS", "JAX_ENABLE_X64", "ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES"):
        monkeypatch.setenv(name, "--a")
    assert set(flags("tensorflow")) == {"XLA_FLAGS", "TF_XLA_FLAGS", "NPY_DISABLE_CPU_FEATURES"}
    assert set(flags("jax")) == {"XLA_FLAGS", "JAX_ENABLE_X64", "NPY_DISABLE_CPU_FEATURES"}
    assert set(flags("torch")) == {"ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES"}


def test_the_flag_that_jax_is_started_with_counts_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    assert flags("jax") == {}
    monkeypatch.setenv("XLA_FLAGS", "")
    assert flags("jax") == {"XLA_FLAGS": ""}


@pytest.mark.parametrize(
    "text", ["--b=1  --a", "--a --b=1", "--a --b=2 --b=1", "--a --tf_xla_persistent_cache_directory='/x y' --b=1"]
)
def test_equivalent_flags_are_equal(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_XLA_FLAGS", text)
    assert flags("tensorflow") == {"TF_XLA_FLAGS": "--a --b=1"}


def test_the_content_of_a_flag_file_counts_and_not_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags"))
    assert flags("tensorflow") == {}  # a compiler goes on without
    (tmp_path / "flags").write_text("--xla_cpu_max_isa=AVX\n")
    assert flags("tensorflow") == {"XLA_FLAGS": "--xla_cpu_max_isa=AVX"}


def test_hiding_all_devices_differs_from_allowing_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert flags("torch") == {"CUDA_VISIBLE_DEVICES": ""}
