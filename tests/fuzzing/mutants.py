"""Breaking files: bytes, texts, JSON, TOML, arrays, HDF5 and the archives that hold them, with checksums made right.

Every function takes the random numbers and what is sound, and returns what is not. Values are drawn from those that
have broken programs before: limits of integers, numbers that are none, empty and endless texts, deep nesting.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

NUMBERS = [
    0, -1, 1, 2, 3, 7, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**9, 10**18,
    -(2**31), -(2**63), 10**400, 0.5, -0.0, 1e-320, 1e30, 1e300, -1e308, float("nan"), float("inf"), -float("inf"),
]  # fmt: skip
TEXTS = [
    "", " ", "x", "\x00", "\x1b[2J", "\n", "a\nb", "\ud800", "\u202eexe", "é", "🚕", "../../etc/passwd", "/dev/zero",
    "NaN", "null", "True", "[red]x[/red]", "{{ 7 * 7 }}", "<script>x</script>", "%s%n", "relu", "float16", "a" * 5_000,
    "Taxi-v4", "FrozenLake-v1", "Blackjack-v1", "evil:Evil-v0", "evil", "os:system",
    "gymnasium.envs.mujoco.mujoco_env:FrozenLake-v1", "mujoco:Ant-v5", "Ant-v05",
    "\u200eA\u2028B\u061c", "models/q", "table.npz", "C:\\x", "https://x",
]  # fmt: skip
NESTED = 3_000


def value(rng: random.Random) -> Any:
    """Return a value that nobody expected."""
    kind = rng.randrange(10)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind < 7:
        return rng.choice(TEXTS)
    if kind == 7:
        return rng.choice([None, True, False, [], {}, [[]], {"": None}])
    if kind == 8:
        return [rng.choice(NUMBERS) for _ in range(rng.randrange(5))]
    return {rng.choice(TEXTS): rng.choice(NUMBERS) for _ in range(rng.randrange(3))}


def raw(rng: random.Random, content: bytes) -> bytes:
    """Break bytes: a few bits, a cut, a block twice, elsewhere or of something else."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        if not data:
            break
        at, length = rng.randrange(len(data)), 1 << rng.randrange(8)
        act = rng.randrange(8)
        if act < 3:
            data[at] ^= 1 << rng.randrange(8)
        elif act == 3:
            data[at : at + 4] = rng.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\1\0\0\0"]
            )
        elif act == 4:
            del data[at : at + length]
        elif act == 5:
            data[at:at] = data[max(0, at - length) : at] or rng.randbytes(length)
        elif act == 6:
            data[at : at + length] = rng.randbytes(length)
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def text(rng: random.Random, content: bytes) -> bytes:
    """Break lines of a text, or its bytes."""
    if rng.random() < 0.3:
        return raw(rng, content)
    lines = content.decode("utf-8", "replace").split("\n")
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(lines))
        act = rng.randrange(6)
        if act == 0:
            del lines[at : at + 1]
        elif act == 1:
            lines.insert(at, rng.choice(lines or [""]))
        elif act == 2:
            lines.insert(at, rng.choice(TEXTS))
        elif act == 3:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif act == 4:
            lines[at] = lines[at] * rng.choice([2, 50, 2_000])
        else:
            column = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:column] + rng.choice(TEXTS) + lines[at][column:]
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) of nested mappings and lists."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            waiting.append(node[key])
    return found


def tree(rng: random.Random, root: Any, strange: Callable[[random.Random], Any] = value) -> Any:
    """Break nested values, in place: other values, missing, doubled, swapped, endlessly deep."""
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        found = places(root)
        if not found:
            return strange(rng)
        node, key = rng.choice(found)
        act = rng.randrange(8)
        if act < 4:
            node[key] = strange(rng)
        elif act == 4:
            del node[key]
        elif act == 5:
            other, entry = rng.choice(found)
            node[key] = json.loads(json.dumps(other.get(entry) if isinstance(other, dict) else None, default=str))
        elif act == 6 and isinstance(node, dict):
            node[rng.choice(TEXTS)] = strange(rng)
        elif act == 7 and rng.random() < 0.2:
            deep: Any = 1
            for _ in range(rng.choice([10, 100, 800])):  # Python's own writers go 1,000 deep, from wherever they are
                deep = [deep] if rng.random() < 0.5 else {"a": deep}
            node[key] = deep
    return root


def as_json(rng: random.Random, content: bytes, strange: Callable[[random.Random], Any] = value) -> bytes:
    """Break a JSON text: its values, or its letters."""
    how = rng.random()
    if how < 0.15:
        return raw(rng, content)
    if how < 0.2:
        return rng.choice([b"", b"null", b"[]", b"3", b"[" * NESTED, b'{"a":' * NESTED, b"\xff\xfe", b"\xef\xbb\xbf{}"])
    try:
        broken = json.dumps(tree(rng, json.loads(content), strange), ensure_ascii=rng.random() < 0.5)
    except RecursionError:  # it was deepened several times: Python writes less deep than a stranger may
        return b'{"a":' * NESTED
    if rng.random() < 0.1:  # a key twice
        broken = broken.replace("{", '{"name": 3, ', 1)
    return broken.encode("utf-8", "surrogatepass")


def as_lines(rng: random.Random, content: bytes) -> bytes:
    """Break a log: one record or several, or the text."""
    if rng.random() < 0.3:
        return text(rng, content)
    lines = content.split(b"\n")
    for _ in range(rng.choice([1, 1, 3, 10])):
        at = rng.randrange(len(lines))
        if lines[at].startswith(b"{"):
            try:
                lines[at] = as_json(rng, lines[at])
            except (ValueError, RecursionError):  # broken already
                lines[at] = raw(rng, lines[at])
    return b"\n".join(lines)


def literal(found: Any) -> str:
    """Return a value as TOML, or as something that looks like it."""
    if isinstance(found, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {literal(item)}" for key, item in found.items()) + "}"
    if isinstance(found, list):
        return "[" + ", ".join(map(literal, found)) + "]"
    return json.dumps(found).replace("NaN", "nan").replace("Infinity", "inf") if found is not None else "1979-05-27"


def as_toml(rng: random.Random, content: bytes) -> bytes:
    """Break settings: the value of a key, a table, or the text."""
    if rng.random() < 0.3:
        return text(rng, content)
    lines = content.decode().split("\n")
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(lines))
        key, equals, _ = lines[at].partition(" = ")
        if equals:
            lines[at] = f"{key} = {literal(value(rng))}"
        elif rng.random() < 0.3:
            lines[at] = rng.choice(
                ["[run]", "[environment]", "[[run]]", "run = 3", "[" + "a." * 500 + "a]", "a = " + "[" * 999]
            )
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def as_array(rng: random.Random, content: bytes) -> bytes:
    """Break an array: its header, its type, its values; a text of JSON within it is broken as that."""
    how = rng.random()
    if how < 0.25:
        return raw(rng, content)
    found = np.load(io.BytesIO(content), allow_pickle=False)
    if found.dtype.kind == "U" and found.ndim == 0 and str(found).startswith("{"):
        broken = as_json(rng, str(found).encode(), rng.choice([value, value, setting]))
        found = np.array(broken.decode("utf-8", "replace"))
    elif how < 0.4:
        found = found.astype(rng.choice(["f4", "f8", "i4", "i8", "u1", "?", "S3", "U2", "c8"]), casting="unsafe")
    elif how < 0.55:
        found = rng.choice(
            [found.ravel(), found[..., None], np.asfortranarray(found), np.repeat(found[None], 2, 0), found[None][:0]]
        )
    elif found.size and found.dtype.kind == "U":
        names = found.ravel().tolist()
        names[rng.randrange(len(names))] = rng.choice([word for word in TEXTS if "\ud800" not in word])
        found = np.array(names).reshape(found.shape)
    elif found.size and found.dtype.kind in "biuf":
        found = found.copy()
        with np.errstate(all="ignore"):
            try:
                found.flat[rng.randrange(found.size)] = rng.choice(NUMBERS)
            except (OverflowError, ValueError):
                found.flat[:] = rng.choice([0, 1])
    out = io.BytesIO()
    np.save(out, found, allow_pickle=False)
    broken = out.getvalue()
    if how > 0.9:  # what it says of itself
        broken = broken.replace(b"'shape': (", b"'shape': (%d, " % abs(int(rng.choice(NUMBERS[:21]))), 1)
    return broken


def as_counts(rng: random.Random, content: bytes) -> bytes:
    """Break a number of a checkpoint, in what it says of itself or in an array of whole numbers."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: np.load(io.BytesIO(archive.read(name)), allow_pickle=False) for name in archive.namelist()}
    about = json.loads(str(members["about.npy"]))
    found = [(node, key) for node, key in places(about) if type(node[key]) in (int, float)]
    whole = [name for name, array in members.items() if array.dtype.kind == "i" and array.size]
    strange = rng.choice([-5, -3, -1, 0, 1, 13, 10**6, 2**31 - 1, 2**62])
    if whole and rng.random() < 0.3:
        array = members[rng.choice(whole)]
        array.flat[rng.randrange(array.size)] = min(strange, np.iinfo(array.dtype).max)
    elif found:
        node, key = rng.choice(found)
        node[key] = type(node[key])(rng.choice([strange, node[key] + 1, node[key] - 1, -node[key]]))
    members["about.npy"] = np.array(json.dumps(about))
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **{name.removesuffix(".npy"): array for name, array in members.items()})
    return out.getvalue()


def setting(rng: random.Random) -> Any:
    """Return a text of settings in which one is strange."""
    return (
        f"seed = {literal(value(rng))}\nupdates = {literal(value(rng))}\n[replay]\ncapacity = {literal(value(rng))}\n"
    )


def as_hdf5(rng: random.Random, content: bytes) -> bytes:
    """Break weights: their bytes, or one dataset's shape, type, values or place."""
    import h5py

    if rng.random() < 0.6:
        return raw(rng, content)
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        act = rng.randrange(6)
        if act == 0:
            del file[name]
        elif act == 1:
            file[name].attrs[rng.choice(["name", "dtype", "x"])] = rng.choice(["bfloat16", "x" * 99, 3])
        elif act == 2:
            file[f"{name}/{rng.choice(['x', 'vars', '0'])}" if isinstance(file[name], h5py.Group) else f"{name}x"] = 3.0
        elif isinstance(file[name], h5py.Dataset):
            shape, kind = file[name].shape, rng.choice(["f4", "f8", "i8", "f2", "?", "S5"])
            del file[name]
            shape = rng.choice([shape, shape[::-1], (), (*shape, 1), tuple(side + 1 for side in shape), (0,)])
            file.create_dataset(name, shape, kind, fillvalue=rng.choice([0, 1, 2]))
    return buffer.getvalue()


def as_archive(rng: random.Random, content: bytes) -> bytes:
    """Break one member of an archive or more, or their names, or the archive itself; checksums are made right."""
    if rng.random() < 0.1:
        return raw(rng, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(len(members))
        name, found = members[at]
        act = rng.randrange(24)
        if act == 0:
            del members[at]
        elif act == 1:
            members[at] = (
                rng.choice([*(name for name, _ in members), "../x", "/x", "assets/x", "x", "\x1b[2J", ""]),
                found,
            )
        elif act == 2:
            members.append((rng.choice(["x", "code.py", "assets/evil.py", name]), rng.choice([b"", found])))
        else:
            members[at] = (name, member(rng, name, found))
        members = members or [("x", b"")]
    out = io.BytesIO()
    method = rng.choice([*[zipfile.ZIP_STORED] * 10, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, found in members:
            archive.writestr(name or "y", found)
    return out.getvalue()


def member(rng: random.Random, name: str, content: bytes) -> bytes:
    """Break a member of an archive as what it is."""
    from tests.fuzzing.hostile import asked_for

    if not content:
        return rng.randbytes(8)
    try:
        if name.endswith(".json"):
            return as_json(rng, content, rng.choice([value, asked_for]))
        if name.endswith(".npy"):
            return as_array(rng, content)
        if name.endswith(".h5"):
            return as_hdf5(rng, content)
    except Exception:  # it was broken in another way already
        return raw(rng, content)
    return raw(rng, content)
