"""What determines the last bits of a result besides the configuration and the seed: versions, processor, flags.

Checkpoints and model cards record it, so that resuming elsewhere can report that the result is not exact; compiled
programs are cached by it. Flags are the environment variables that control a compiler or kernel library: which
instructions it may use, how far it may reorder sums, on which device it computes. A compiler flag is assumed to change
the bits unless it is known not to. Settings made through a backend's API are not inspected, except the number of
threads, which is always one.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from deeptaxi.io.safe_load import read_text

PACKAGES = ("deeptaxi", "keras", "gymnasium", "numpy")

ONE_THREAD = {"jax": {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}}  # flags set when deeptaxi starts a backend
COMPILERS = ("XLA_FLAGS", "TF_XLA_FLAGS")  # variables that hold flags or name a file of flags
FLAG = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
CACHE_FLAGS = "--tf_xla_persistent_cache"  # where programs are cached, not what they are
FLAG_BYTES = 2**16

# For these variables, empty differs from unset.
DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG")
ONEDNN = tuple(
    f"{library}_{name}"
    for library in ("ONEDNN", "DNNL")
    for name in ("MAX_CPU_ISA", "CPU_ISA_HINTS", "DEFAULT_FPMATH_MODE")
)
COMMON = (*DEVICES, *ONEDNN, "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "OPENBLAS_CORETYPE")
VARIABLES = {
    "tensorflow": (
        *COMPILERS,
        "TF_ENABLE_ONEDNN_OPTS",
        "TF_DISABLE_MKL",
        "TF_SET_ONEDNN_FPMATH_MODE",
        "TF_DETERMINISTIC_OPS",
        "TF_CUDNN_DETERMINISTIC",
        "TF_USE_CUBLASLT",
    ),
    "jax": (
        "XLA_FLAGS",
        "JAX_PLATFORMS",
        "JAX_PLATFORM_NAME",
        "JAX_ENABLE_X64",
        "JAX_DEFAULT_DTYPE_BITS",
        "JAX_DEFAULT_MATMUL_PRECISION",
        "JAX_NUMPY_DTYPE_PROMOTION",
        "JAX_DEFAULT_PRNG_IMPL",
        "JAX_THREEFRY_PARTITIONABLE",
        "JAX_RANDOM_SEED_OFFSET",
        "JAX_DISABLE_JIT",
        "JAX_DISABLE_MOST_OPTIMIZATIONS",
        "JAX_OPTIMIZATION_LEVEL",
        "JAX_EXEC_TIME_OPTIMIZATION_EFFORT",
        "JAX_MEMORY_FITTING_EFFORT",
    ),
    "torch": (
        "ATEN_CPU_CAPABILITY",
        "MKL_CBWR",
        "MKL_ENABLE_INSTRUCTIONS",
        "MKL_DEBUG_CPU_TYPE",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    ),
}


def chosen_backend() -> str:
    """Return the backend that Keras runs on, or would run on, without starting it."""
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    return os.environ.get("KERAS_BACKEND") or "tensorflow"  # as Keras reads it


def versions(backend: str) -> dict[str, str]:
    """Return the versions that determine the weights besides the configuration: packages, Keras' backend, Python."""
    return {"python": platform.python_version(), **{name: version_of(name) for name in (*PACKAGES, backend)}}


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package; reading it takes a millisecond."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # an uninstalled checkout
        return "unknown"


def flags(backend: str) -> dict[str, str]:
    """Return the environment variables that affect the bits on a backend, except those with their usual values.

    The result is the same before and after the backend is started.
    """
    found = {}
    for name in (*VARIABLES.get(backend, ()), *COMMON):
        usual = ONE_THREAD.get(backend, {}).get(name, None if name in DEVICES else "")
        if name in os.environ:
            text = normal(text_of(name)) if name in COMPILERS else os.environ[name].strip()
            if text != usual:
                found[name] = text
    return found


def text_of(name: str) -> str:
    """Return the flags that a compiler reads from a variable; a value without a leading dash names a file of flags."""
    text = os.environ.get(name, "").strip()
    if not text or text.startswith("-"):
        return text
    try:
        return read_text(Path(text), FLAG_BYTES, plain=True).strip()
    except (OSError, ValueError):  # `keras_backend.start` reports this if the compiler cannot continue
        return ""


def normal(text: str) -> str:
    """Sort flags by name; of duplicates, the last counts."""
    last = {flag.partition("=")[0]: flag for flag in FLAG.findall(text) if not flag.startswith(CACHE_FLAGS)}
    return " ".join(last[name] for name in sorted(last))


def describe_flags(found: dict[str, str]) -> str:
    """Format flags as one line."""
    return ", ".join(f"{name}={text}" for name, text in found.items())
