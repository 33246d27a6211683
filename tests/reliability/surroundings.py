"""What a command line may find itself in: closed descriptors, odd variables, limits, masks and folders.

Every surrounding is drawn from `ODD`, or is one of the seven ways to close standard streams. One that is `harmless`
must change no answer; the others may make a command fail, in one line. What Python and compiled libraries read as they
start takes a process of its own (`at_start`).
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.fuzzing.hostile import MODULE, imported_by_gymnasium
from tests.reliability.processes import ROOT

DROP_BOUND = 24  # PR_CAPBSET_DROP
CAPSETS = {"x86_64": 126, "aarch64": 91}  # the number of the system call capset
VERSION = 0x20080522  # of the structure that it takes
ALL_CAPABILITIES = 41
KIB, MIB = 2**10, 2**20


@dataclass(frozen=True)
class Surrounding:
    """What is odd around a command line.

    Attributes:
        said: what is typed before or after the line in a shell to have it.
        variables: of the environment; None where one is not set.
        closed: descriptors.
        limits: by their number in `resource`.
        mask: the umask.
        folder: "deleted", "read-only" (it and all in it), "forbidden" (modules that nobody may import stand in it).
        harmless: whether every answer must be what it is without.
        at_start: whether it is read before a command can begin.
    """

    said: str
    variables: Mapping[str, str | None] = field(default_factory=dict)
    closed: frozenset[int] = frozenset()
    limits: Mapping[int, int] = field(default_factory=dict)
    mask: int | None = None
    folder: str = ""
    harmless: bool = True
    at_start: bool = False

    def __add__(self, other: Surrounding) -> Surrounding:
        """Return both at once."""
        return Surrounding(
            f"{self.said} {other.said}".lstrip(),
            {**self.variables, **other.variables},
            self.closed | other.closed,
            {**self.limits, **other.limits},
            self.mask if other.mask is None else other.mask,
            other.folder or self.folder,
            self.harmless and other.harmless,
            self.at_start or other.at_start,
        )

    def furnish(self, folder: Path) -> None:
        """Put into the folder what must stand there."""
        if self.folder == "forbidden":
            for name in ("evil", "pygame", *imported_by_gymnasium()):
                (folder / f"{name}.py").write_text(MODULE, encoding="utf-8")

    def enter(self, environment: dict[str, str]) -> None:
        """Change this process, which stands in the folder, and the variables of those that it starts."""
        give_up_privileges()
        for name, value in self.variables.items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        if self.mask is not None:
            os.umask(self.mask)
        if self.folder == "deleted":
            gone = Path("gone")
            gone.mkdir()
            os.chdir(gone)
            Path("../gone").rmdir()
        elif self.folder == "read-only":
            for path in [*Path().rglob("*"), Path()]:
                if not path.is_symlink():
                    path.chmod(0o555 if path.is_dir() else 0o444)
        for number, limit in self.limits.items():
            resource.setrlimit(number, (limit, limit))
        for number in self.closed:
            os.close(number)


def variable(said: str, *, harmless: bool = True, at_start: bool = True) -> Surrounding:
    """Return a surrounding of variables, as they are typed before a command: ``A=x -B`` sets A and takes B away."""
    given: dict[str, str | None] = {}
    for word in said.split("\0"):
        name, equals, value = word.partition("=")
        given[name.removeprefix("-")] = value if equals else None
    return Surrounding(said.replace("\0", " "), given, harmless=harmless, at_start=at_start)


def limited(letter: str, number: int, size: int, *, harmless: bool = False, at_start: bool = False) -> Surrounding:
    """Return a surrounding with a limit."""
    return Surrounding(f"ulimit -{letter} {size}", limits={number: size}, harmless=harmless, at_start=at_start)


CLOSED = tuple(
    Surrounding(
        " ".join(f"{number or ''}{'<' if number == 0 else '>'}&-" for number in numbers), closed=frozenset(numbers)
    )
    for count in (1, 2, 3)
    for numbers in itertools.combinations(range(3), count)
)
NOT_KEPT = "\0-DEEPTAXI_CACHE"
OF_THE_TERMINAL = tuple(
    variable(said, at_start=False)
    for said in (
        *("COLUMNS=0", "COLUMNS=0\0LINES=0", "COLUMNS=garbage\0LINES=x", "COLUMNS=-5", "COLUMNS=1", "COLUMNS=²"),
        *("COLUMNS=20", f"COLUMNS={'9' * 20}\0LINES={'9' * 20}", "LINES=1", "LINES=²", "COLUMNS="),
        *("TERM=dumb", "-TERM", "TERM=", "TERM=\x1b[31m", "NO_COLOR=1", "NO_COLOR=", "TERM=xterm-999color"),
        *("FORCE_COLOR=1", "FORCE_COLOR=", "COLORTERM=x", "TTY_INTERACTIVE=1", "UNICODE_VERSION=x"),
        *("TMPDIR=nowhere", "TMPDIR=file.txt", "TMPDIR="),
    )
)  # fmt: skip
AT_START = tuple(
    variable(said)
    for said in (
        *(f"{said}{NOT_KEPT}" for said in ("-HOME", "HOME=", "HOME=file.txt", "HOME=~", "HOME=/nowhere", "HOME=/proc")),
        *(f"{said}{NOT_KEPT}" for said in ("HOME=/proc\0KERAS_HOME=/proc", "XDG_CACHE_HOME=/proc", "XDG_CACHE_HOME=x")),
        *("KERAS_HOME=file.txt", "DEEPTAXI_CACHE=file.txt", "DEEPTAXI_CACHE=/proc", "DEEPTAXI_CACHE=/tmp"),
        *("DEEPTAXI_CACHE=/dev/null/x", "DEEPTAXI_CACHE=", "DEEPTAXI_CACHE=off", "DEEPTAXI_CACHE=../temporary/a'b"),
        *("DEEPTAXI_CACHE=" + "x" * 300, "LANG=C\0LC_ALL=C", "LC_ALL=C\0PYTHONUTF8=0\0PYTHONCOERCECLOCALE=0"),
        *("LC_ALL=xx_XX.nonsense", "LANG=\0-LC_ALL", "PYTHONIOENCODING=ascii", "PYTHONIOENCODING=latin-1:strict"),
        *("PYTHONIOENCODING=:ignore", "PYTHONIOENCODING=cp1252", "PYTHONUTF8=1", "PYTHONUNBUFFERED=1"),
        *("PYTHONOPTIMIZE=2", "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0", "PYTHONNOUSERSITE=1"),
        *("PYTHONSAFEPATH=1", "PYTHONWARNINGS=ignore", "PYTHONFAULTHANDLER=1", "PYTHONINTMAXSTRDIGITS=640"),
        *("PYTHONMALLOC=malloc", "OMP_NUM_THREADS=garbage", "OMP_NUM_THREADS=-1\0OPENBLAS_NUM_THREADS=x"),
        *("OPENBLAS_NUM_THREADS=0", "TF_NUM_INTRAOP_THREADS=x", "TF_ENABLE_ONEDNN_OPTS=x", "CUDA_VISIBLE_DEVICES=x"),
        *("KERAS_BACKEND=", "TF_USE_LEGACY_KERAS=1", "KERAS_NNX_ENABLED=x", "XLA_FLAGS=", "XLA_FLAGS= "),
        *("TF_XLA_FLAGS=", "TF_XLA_FLAGS=  ", "TF_XLA_FLAGS=--tf_xla_min_cluster_size=2", "JAX_PLATFORMS=nonsense"),
        *("JAX_ENABLE_X64=nonsense", "XLA_FLAGS=--xla_cpu_multi_thread_eigen=false", "SDL_VIDEODRIVER=nonsense"),
        *("DISPLAY=:99", "MPLBACKEND=nonsense", "MPLCONFIGDIR=/proc", "BROWSER=x"),
    )
)  # fmt: skip
HARMFUL = (
    *(
        variable(said, harmless=False)
        for said in (
            *("KERAS_BACKEND=nonsense", "KERAS_BACKEND=../x", "KERAS_BACKEND= ", "KERAS_BACKEND=TensorFlow"),
            *("KERAS_BACKEND=numpy", "KERAS_BACKEND=os", "PYTHONWARNINGS=error", "XLA_FLAGS=garbage"),
            *("XLA_FLAGS=--xla_nonsense=1", "XLA_FLAGS=--xla_cpu_multi_thread_eigen=x", "XLA_FLAGS='"),
            *("TF_XLA_FLAGS=garbage", "TF_XLA_FLAGS=--tf_xla_nonsense=1", "TF_XLA_FLAGS=--tf_xla_auto_jit=x"),
            *("TF_XLA_FLAGS='x", "XLA_FLAGS=file.txt", "KERAS_BACKEND=jax\0JAX_PLATFORMS=nonsense"),
            *("KERAS_BACKEND=jax\0JAX_ENABLE_X64=nonsense", "KERAS_BACKEND=jax\0XLA_FLAGS=--xla_nonsense=1"),
        )
    ),
    *(limited("n", resource.RLIMIT_NOFILE, number) for number in (6, 8, 10, 12, 16, 24)),
    limited("n", resource.RLIMIT_NOFILE, 64, harmless=True),
    *(limited("f", resource.RLIMIT_FSIZE, size) for size in (0, KIB, 4 * KIB, 64 * KIB)),
    *(limited("v", resource.RLIMIT_AS, size * MIB, at_start=True) for size in (50, 80, 120, 200, 300, 600)),
    limited("s", resource.RLIMIT_STACK, MIB, harmless=True, at_start=True),
    Surrounding("umask 0;", mask=0),
    Surrounding("umask 077;", mask=0o077),
    *(Surrounding(f"umask {mask:04o};", mask=mask, harmless=False) for mask in (0o777, 0o222, 0o444, 0o111)),
    Surrounding("mkdir gone; cd gone; rmdir ../gone;", folder="deleted", harmless=False),
    Surrounding("chmod -R a-w .;", folder="read-only", harmless=False),
    replace(variable(f"PYTHONPATH={ROOT}{os.pathsep}"), folder="forbidden"),
)  # fmt: skip
ODD = (*OF_THE_TERMINAL, *AT_START, *HARMFUL)


def draw(chance: random.Random, fits: Callable[[Surrounding], bool]) -> Surrounding:
    """Return a surrounding of those that fit, or several of them at once."""
    pools = [[item for item in pool if fits(item)] for pool in (OF_THE_TERMINAL, AT_START, HARMFUL)]
    found = Surrounding("")
    for _ in range(chance.choices([0, 1, 2, 3], [4, 10, 3, 1])[0]):
        found += chance.choice(chance.choice([pool for pool in pools if pool]))
    if not found.said or chance.random() < 0.35:
        found += chance.choice(CLOSED)
    return found


def give_up_privileges() -> None:
    """Let permissions hold for this process and those that it becomes, also where it is the superuser's."""
    if os.geteuid() or sys.platform != "linux" or os.uname().machine not in CAPSETS:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(ALL_CAPABILITIES):
        libc.prctl(DROP_BOUND, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(VERSION, 0)
    libc.syscall(CAPSETS[os.uname().machine], header, (ctypes.c_uint32 * 6)())
