"""Files that want to run code, read other files or take all memory. What is run leaves `EXECUTED` behind."""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import io
import json
import marshal
import os
import pickle
import random
import re
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SIGN = "EXECUTED"  # a file in the folder that a case is read in
MODULE = f"open({SIGN!r}, 'w').close()\n"  # of every module in `forbidden`, which stand in that folder


IMPORTED = re.compile(r"^\s*(?:import|from)\s+([A-Za-z_]\w*)", re.MULTILINE)  # the first word of what is imported


class Pickled:
    """What touches the sign when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {SIGN}",)


def function() -> None:
    """Touch the sign, as a lambda within a model."""
    import os

    os.system("touch EXECUTED")  # noqa: S605, S607  # that it is never run is what is tested


CODE = base64.b64encode(marshal.dumps(function.__code__)).decode()
LAMBDA = {"class_name": "__lambda__", "config": {"value": [CODE, None, None]}}
ASKED: list[Any] = [
    {"module": "os", "class_name": "system", "config": f"touch {SIGN}", "registered_name": None},
    {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", SIGN]}, "registered_name": None},
    {"module": "evil", "class_name": "Evil", "config": {}, "registered_name": "evil>Evil"},
    {"module": "evil", "class_name": "function", "config": "evil", "registered_name": "evil"},
    {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "exec"},
    {"module": "keras.layers", "class_name": "Lambda", "config": {"function": LAMBDA}, "registered_name": None},
    {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "."}, "registered_name": None},
    {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "file:evil.py"}, "registered_name": None},
    {"module": "keras.models", "class_name": "load_model", "config": {"filepath": "x"}, "registered_name": None},
    {"module": "keras.src.saving.saving_api", "class_name": "function", "config": "load_model"},
    {"module": "keras.layers", "class_name": "Dense", "config": {"units": 10**9}, "registered_name": None},
    {"module": "keras.layers", "class_name": "Embedding", "config": {"input_dim": 10**9, "output_dim": 10**4}},
    {"module": "keras.layers", "class_name": "RepeatVector", "config": {"n": 10**9}, "registered_name": None},
    {"module": "keras", "class_name": "Sequential", "config": {"layers": []}, "registered_name": None},
    LAMBDA,
    {"class_name": "__typespec__", "config": [], "module": "evil", "spec_name": "Evil", "registered_name": None},
    {"class_name": "__tensor__", "config": {"value": [[0] * 9], "dtype": "float32"}},
    {"class_name": "__numpy__", "config": {"value": "x", "dtype": "O"}},
    10**9,
    2**31,
    -1,
    "deeptaxi>OneHotDense",
    "deeptaxi.layers",
]


NAMES = (  # of modules: of the folder, with parts and signs that a name has not, as part of a package that is there
    *("evil", "evil.evil", "./evil", "EVIL", "", ".evil", "evil.", "evil\\n", " evil", "gymnasium.evil", "keras.evil"),
    *("deeptaxi.evil", "gymnasium", "gymnasium.envs.evil", "gymnasium..evil", "gymnasium.envs", "FrozenLake-vevil"),
)
IDS = ("FrozenLake-v1", "FrozenLake", "Taxi-v4", "CartPole-v1", "Ant-v5", "Ant-v05", "Evil-v0", "X", "")


@cache
def imported_by_gymnasium() -> tuple[str, ...]:
    """Return the modules that Gymnasium imports somewhere and that are not installed, which a folder can supply."""
    found = set()
    for path in package().rglob("*.py"):
        found |= set(IMPORTED.findall(path.read_text(encoding="utf-8")))
    return tuple(sorted(name for name in found if importlib.util.find_spec(name) is None))


@cache
def installed_modules() -> tuple[str, ...]:
    """Return names of modules that are there: of Gymnasium all, of the other packages and of Python the first words."""
    root = package()
    parts = [path.relative_to(root.parent).with_suffix("").parts for path in root.rglob("*.py")]
    own = (".".join(words[:-1] if words[-1] == "__init__" else words) for words in parts)
    return tuple(sorted({*own, *importlib.metadata.packages_distributions(), *sys.stdlib_module_names}))


def package() -> Path:
    """Return the folder of Gymnasium."""
    import gymnasium

    return Path(gymnasium.__file__).parent


def write_forbidden(folder: Path) -> None:
    """Put the forbidden module into a folder, under every name that an import can come to it by."""
    for name in ("evil", "EVIL", "FrozenLake-vevil", "pygame", *imported_by_gymnasium()):
        (folder / f"{name}.py").write_text(MODULE, encoding="utf-8")
    for name in ("evil_package", "gymnasium", "keras"):  # the latter two are there already, and looked for there
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(MODULE, encoding="utf-8")
        (folder / name / "evil.py").write_text(MODULE, encoding="utf-8")


def environment_of_a_module(rng: random.Random) -> str:
    """Return the name of an environment of a module: forbidden, or of a package that is there."""
    module = rng.choice([*NAMES, "evil_package", *imported_by_gymnasium(), *rng.choices(installed_modules(), k=20)])
    return f"{module}:{rng.choice(IDS)}" if rng.random() < 0.9 else rng.choice(IDS)


def asked_for(rng: random.Random) -> Any:
    """Return something that a model may ask for."""
    return json.loads(json.dumps(rng.choice(ASKED)))


def pickled_array() -> bytes:
    """Return an array of objects that run code when they are loaded."""
    out = io.BytesIO()
    np.save(out, np.array([Pickled()], object), allow_pickle=True)
    return out.getvalue()


def bomb(rng: random.Random, content: bytes) -> bytes:
    """Return an archive with a member that unpacks to gigabytes, or says that it does."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        names = archive.namelist()
        chosen = rng.choice(names)
        for name in names:
            made.writestr(name, archive.read(name) if name != chosen else zeros(rng, archive.read(name)))
    return out.getvalue()


def zeros(rng: random.Random, content: bytes) -> bytes:
    """Return a member that is large, or an array that says so."""
    if rng.random() < 0.5:
        return content + bytes(2**26)
    shape = rng.choice([(10**12,), (0, 10**12), (10**9, 10**9, 10**9), (2**31, 2), (-1,)])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return header.getvalue() + bytes(64)


def with_pickle(rng: random.Random, content: bytes) -> bytes:
    """Return an archive one of whose arrays is pickled, or a pickle under its name."""
    if rng.random() < 0.2:
        return pickle.dumps(Pickled())
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w") as made:
        names = archive.namelist()
        chosen = rng.choice(names)
        for name in names:
            evil = rng.choice([pickled_array(), pickle.dumps(Pickled())])
            made.writestr(name, evil if name == chosen else archive.read(name))
    return out.getvalue()


def module_in_settings(rng: random.Random, content: bytes) -> bytes:
    """Return settings whose environment is a module of code."""
    name = environment_of_a_module(rng)
    lines = content.decode().split("\n")
    return "\n".join(f'id = "{name}"' if line.startswith("id = ") else line for line in lines).encode()


def module_in_checkpoint(rng: random.Random, content: bytes) -> bytes:
    """Return a checkpoint of a training whose environment is a module of code."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = dict(archive)
    about = json.loads(str(arrays["about"]))
    about["config"] = module_in_settings(rng, about["config"].encode()).decode()
    out = io.BytesIO()
    np.savez(out, **{**arrays, "about": np.array(json.dumps(about))})
    return out.getvalue()
