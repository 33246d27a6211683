from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deeptaxi.backend import cache

TRAITS = ("compiler", "1.0", "flags")
CONTENT = np.random.default_rng(0).bytes(5000)


def compiled_by_a_process(root: Path, name: str = "program", content: bytes = CONTENT) -> Path:
    """Store one entry as a process does; return its file."""
    opened = cache.Cache(root, *TRAITS)
    (opened.working / name).write_bytes(content)
    opened.close()
    return next(root.glob(f"compiler-1.0-*/{name}.*"))


def given(root: Path, *traits: str) -> dict[str, bytes]:
    """Return what the next process is given."""
    opened = cache.Cache(root, *(traits or TRAITS))
    found = {path.name: path.read_bytes() for path in opened.working.iterdir()}
    opened.close()
    return found


def test_a_compiled_program_is_reused_by_the_next_process(tmp_path):
    entry = compiled_by_a_process(tmp_path / "cache")
    assert entry.name == "program." + hashlib.sha256(CONTENT).hexdigest()
    assert given(tmp_path / "cache") == {"program": CONTENT}
    assert not list((tmp_path / "cache").glob("working-*"))


@pytest.mark.parametrize("other", [("compiler", "1.1", "flags"), ("compiler", "1.0", "--fast"), ("other", "1.0", "")])
def test_another_compiler_gets_no_entry(tmp_path, other):
    compiled_by_a_process(tmp_path)
    assert given(tmp_path, *other) == {}


def test_another_processor_gets_no_entry(tmp_path, monkeypatch):
    compiled_by_a_process(tmp_path)
    monkeypatch.setattr(cache, "compiler_target", lambda: ["an older processor"])
    assert given(tmp_path) == {}


@pytest.mark.parametrize(
    "damage",
    [b"", CONTENT[:1000], np.random.default_rng(1).bytes(5000), bytes([CONTENT[0] ^ 1]) + CONTENT[1:]],
    ids=["empty", "truncated", "random", "one bit"],
)
def test_a_damaged_entry_is_removed_and_never_used(tmp_path, damage):
    entry = compiled_by_a_process(tmp_path)
    compiled_by_a_process(tmp_path, "sound")
    entry.write_bytes(damage)
    assert given(tmp_path) == {"sound": CONTENT}
    assert not entry.exists()
    assert compiled_by_a_process(tmp_path) == entry  # and it is stored anew


def test_an_entry_removed_by_another_process_stays_readable_for_its_user(tmp_path):
    entry = compiled_by_a_process(tmp_path)
    opened = cache.Cache(tmp_path, *TRAITS)
    entry.unlink()
    assert (opened.working / "program").read_bytes() == CONTENT
    opened.close()


def test_two_processes_may_store_the_same_program(tmp_path):
    one, two = (cache.Cache(tmp_path, *TRAITS) for _ in range(2))
    (one.working / "program").write_bytes(CONTENT)
    (two.working / "program").write_bytes(CONTENT + b"compiled otherwise")
    one.close()
    two.close()
    assert given(tmp_path)["program"][:5000] == CONTENT


def test_a_half_written_entry_is_not_stored(tmp_path):
    opened = cache.Cache(tmp_path, *TRAITS)
    (opened.working / "program.pb-123.tmp").write_bytes(CONTENT)
    opened.close()
    assert given(tmp_path) == {}


def test_after_a_failure_the_path_is_empty_and_writable_and_nothing_is_stored(tmp_path):
    compiled_by_a_process(tmp_path)
    opened = cache.Cache(tmp_path, *TRAITS)
    opened.abandon()
    assert list(opened.working.iterdir()) == []
    (opened.working / "program").write_bytes(b"elsewhere")
    opened.close()
    assert given(tmp_path) == {"program": CONTENT}
    opened.forget()
    assert given(tmp_path) == {}


def test_a_working_folder_that_vanishes_does_no_harm(tmp_path):
    opened = cache.Cache(tmp_path / "cache", *TRAITS)
    for path in sorted((tmp_path / "cache").rglob("*"), reverse=True):
        path.rmdir()
    opened.close()
    assert given(tmp_path / "cache") == {}


def test_the_oldest_entries_and_leftovers_of_killed_processes_are_removed_first(tmp_path):
    for age in range(4):
        os.utime(compiled_by_a_process(tmp_path, f"program{age}"), (1e9 - age, 1e9 - age))
    cache.prune(tmp_path, 2 * len(CONTENT))
    assert sorted(given(tmp_path)) == ["program0", "program1"]


def test_half_a_copy_is_not_used(tmp_path, monkeypatch):
    compiled_by_a_process(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cache.Path, "open", full_after_100_bytes(Path.open))
        opened = cache.Cache(tmp_path, *TRAITS)
    assert list(opened.working.iterdir()) == []
    opened.close()
    assert given(tmp_path) == {"program": CONTENT}


def full_after_100_bytes(open_file):
    """Return what opens files as on a disk that is full after 100 bytes."""

    def opened(path, mode="r", **how):
        file = open_file(path, mode, **how)
        if "x" in mode:
            file.write(CONTENT[:100])
            file.close()
            file = (path.parent / "missing").open("rb")
        return file

    return opened


def swapping(swap, of=Path.read_bytes):
    """Return a `Path.read_bytes` after which the file is another one at once, as by another process."""

    def read(path):
        content = of(path)
        swap(path)
        return content

    return read


def replace(path):
    aside = path.with_name("aside")
    aside.write_bytes(b"another program")
    aside.replace(path)


def change(path):
    path.write_bytes(b"another program")  # the same file, for all of its names


@pytest.mark.parametrize("swap", [replace, change])
def test_an_entry_swapped_after_verification_is_not_used(tmp_path, monkeypatch, swap):
    compiled_by_a_process(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cache.Path, "read_bytes", swapping(swap))
        opened = cache.Cache(tmp_path, *TRAITS)
    assert (opened.working / "program").read_bytes() == CONTENT
    opened.close()


def test_an_entry_changed_later_does_not_change_for_its_users(tmp_path):
    entry = compiled_by_a_process(tmp_path)
    opened = cache.Cache(tmp_path, *TRAITS)
    change(entry)
    assert (opened.working / "program").read_bytes() == CONTENT
    change(opened.working / "program")  # nor the other way round
    opened.close()
    assert given(tmp_path) == {}
    assert given(tmp_path) == {}


@pytest.mark.parametrize("swap", [replace, change])
def test_the_stored_bytes_are_the_hashed_bytes(tmp_path, monkeypatch, swap):
    opened = cache.Cache(tmp_path, *TRAITS)
    (opened.working / "program").write_bytes(CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr(cache.Path, "read_bytes", swapping(swap))
        opened.close()
    assert given(tmp_path) == {"program": CONTENT}


def test_a_program_is_stored_after_another_process_cleared_the_cache(tmp_path):
    opened = cache.Cache(tmp_path, *TRAITS)
    (opened.working / "program").write_bytes(CONTENT)
    opened.forget()
    opened.close()
    assert given(tmp_path) == {"program": CONTENT}


# Opens and closes the cache again and again as a process does that compiles: looks whether what it is given is whole,
# compiles something, and meets mishaps. It ends by killing itself, or not.
PROCESS = """
import hashlib, os, random, shutil, signal, sys, time
from pathlib import Path
from deeptaxi.backend import cache

def content(name):
    return hashlib.sha256(name.encode()).digest() * 2000

root, seed, mortal = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "mortal"
draw, end, rounds = random.Random(seed), time.monotonic() + 1.5, 0
while rounds < 10 or time.monotonic() < end:
    opened = cache.open_cache("compiler", "1.0", "flags")
    if opened is None:
        continue
    for path in opened.working.iterdir():
        assert path.read_bytes() == content(path.name), path
    for _ in range(3):
        name = f"program{draw.randrange(20)}"
        if not (opened.working / name).exists():
            (opened.working / name).write_bytes(content(name))
    mishap = draw.random()
    if mishap < 0.1:
        opened.forget()
    elif mishap < 0.2:
        cache.prune(root, 300_000)
    elif mishap < 0.3:
        try:
            for entry in list(root.glob("compiler-*/*"))[:1]:  # which another process may remove meanwhile
                if mishap < 0.25:
                    entry.replace(root / f"aside{seed}")
                entry.write_bytes(b"damaged")  # a new file of that name, or the one that others may be reading
        except OSError:
            pass
    elif mishap < 0.4:
        opened.abandon()
    if mortal and rounds > 3:
        os.kill(os.getpid(), signal.SIGKILL)
    opened.close()
    rounds += 1
"""


def test_processes_that_share_it_never_see_a_half_or_damaged_program(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    kinds = ["mortal", "mortal", "immortal", "immortal", "immortal"]
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, tmp_path, str(seed), kind], stderr=subprocess.PIPE, text=True)
        for seed, kind in enumerate(kinds)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2 + [0] * 3, errors
    given(tmp_path)  # sweeps what the killed ones left
    assert not list(tmp_path.glob("working-*"))
    for entry in tmp_path.glob("compiler-*/*"):
        assert hashlib.sha256(entry.read_bytes()).hexdigest() == entry.suffix[1:]


@pytest.mark.parametrize("value", ["", "off", "OFF"])
def test_the_cache_can_be_switched_off(monkeypatch, value):
    monkeypatch.setenv(cache.VARIABLE, value)
    assert cache.open_cache(*TRAITS) is None


def test_the_cache_is_in_the_folder_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "deeptaxi" in str(cache.default_root())
    if sys.platform == "linux":
        assert cache.default_root() == tmp_path / "deeptaxi"


def test_without_a_home_folder_there_is_no_cache(monkeypatch):
    monkeypatch.delenv(cache.VARIABLE)
    unknown = Path("~/.cache/deeptaxi")  # what platformdirs says for a user without HOME and without an account
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda *_, **__: unknown)
    assert cache.default_root() is None


def test_a_folder_that_cannot_be_used_means_no_cache(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv(cache.VARIABLE, str(place))
        assert cache.open_cache(*TRAITS) is None


own_permissions = pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has other permissions")


@own_permissions
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_used(monkeypatch, tmp_path, mode):
    entry = compiled_by_a_process(tmp_path)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    for folder in (tmp_path, entry.parent):
        folder.chmod(mode)
        assert cache.open_cache(*TRAITS) is None
        folder.chmod(0o700)
    assert given(tmp_path) == {"program": CONTENT}


@own_permissions
def test_a_folder_that_others_may_replace_is_not_used(monkeypatch, tmp_path):
    root = tmp_path / "shared" / "mine" / "cache"
    monkeypatch.setenv(cache.VARIABLE, str(root))
    compiled_by_a_process(root)
    for mode in (0o777, 0o770):
        (tmp_path / "shared").chmod(mode)
        assert cache.open_cache(*TRAITS) is None
    (tmp_path / "shared").chmod(0o1777)  # as /tmp is: nobody else may rename what is in it
    assert given(root) == {"program": CONTENT}


@own_permissions
def test_the_path_of_a_folder_is_checked_with_its_links_resolved(monkeypatch, tmp_path):
    (tmp_path / "shared" / "cache").mkdir(parents=True, mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "shared" / "cache")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "link"))
    compiled_by_a_process(tmp_path / "link")
    (tmp_path / "shared").chmod(0o777)
    assert cache.open_cache(*TRAITS) is None


@own_permissions
def test_an_entry_that_is_a_link_or_writable_by_others_is_removed_and_never_used(tmp_path):
    entry = compiled_by_a_process(tmp_path)
    compiled_by_a_process(tmp_path, "sound")
    entry.chmod(0o620)
    assert given(tmp_path) == {"sound": CONTENT}
    (tmp_path / "elsewhere").write_bytes(CONTENT)
    entry.symlink_to(tmp_path / "elsewhere")
    assert given(tmp_path) == {"sound": CONTENT}
    assert not entry.is_symlink()
    assert (tmp_path / "elsewhere").exists()


@own_permissions
def test_a_folder_of_another_user_is_not_used(monkeypatch, tmp_path):
    compiled_by_a_process(tmp_path)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    monkeypatch.setattr(cache.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert cache.open_cache(*TRAITS) is None


@own_permissions
def test_new_folders_are_private_whatever_the_umask(monkeypatch, tmp_path):
    before = os.umask(0)
    try:
        entry = compiled_by_a_process(tmp_path / "made" / "cache")
    finally:
        os.umask(before)
    assert given(tmp_path / "made" / "cache") == {"program": CONTENT}
    for path in (tmp_path / "made", tmp_path / "made" / "cache", entry.parent, entry):
        assert path.stat().st_mode & 0o077 == 0


def test_the_users_own_files_in_the_folder_are_left_alone(monkeypatch, tmp_path):
    mine = [tmp_path / name / "mine" for name in ("documents", "working-papers", "working-my-notes")]
    for path in mine:
        path.parent.mkdir()
        path.write_bytes(CONTENT)
        os.utime(path.parent, (0, 0))
    monkeypatch.setattr(cache, "LIMIT", 100)
    compiled_by_a_process(tmp_path, content=b"small")
    assert all(path.exists() for path in mine)


def test_a_full_disk_means_no_cache_and_leaves_nothing(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))  # a write fails as it does on a full disk
    try:
        assert cache.open_cache(*TRAITS) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.glob("working-*"))


PROGRAM = """
import sys
from deeptaxi.backend import keras_backend
keras_backend.start()
import keras, numpy as np
w = keras.Variable(np.arange(12.0, dtype="float32").reshape(3, 4))
def step(x):
    w.assign(keras.ops.fori_loop(0, 5, lambda i, v: v - 0.1 * keras.ops.sin(keras.ops.matmul(x, v)), w.value))
    return keras.ops.sum(w)
if "break" in sys.argv:
    import shutil
    shutil.rmtree(keras_backend._cache.working)
    keras_backend._cache.working.write_text("not a folder")
f = keras_backend.compiled(step, [w])
x = np.random.default_rng(0).normal(size=(3, 3)).astype("float32")
f(x)
print(float(f(x)).hex(), sorted(path.name for path in keras_backend._cache.working.glob("*")), sep="|")
"""


def start(root: Path, name: str, *words: str) -> subprocess.Popen[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TF_XLA", "JAX_", "XLA_"))}
    environment = {
        **inherited,
        "KERAS_BACKEND": name,
        cache.VARIABLE: str(root),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *words], env=environment, text=True, **pipes)


def output(process: subprocess.Popen[str]) -> str:
    said, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    return said


def entries(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("[!w]*/*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_programs_are_found_again_and_compute_the_same(tmp_path, name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    cold = output(start(tmp_path, name))
    stored = entries(tmp_path)
    assert stored
    assert output(start(tmp_path, name)) == cold  # and it has compiled nothing else
    assert entries(tmp_path) == stored


@pytest.mark.slow
def test_tensorflow_continues_when_its_folder_breaks(tmp_path):
    # TensorFlow ends with FailedPreconditionError there, and likewise if the disk is full.
    said = output(start(tmp_path, "tensorflow", "break"))
    assert said.partition("|")[0] == output(start(tmp_path, "tensorflow")).partition("|")[0]
    assert not list(tmp_path.glob("working-*"))
