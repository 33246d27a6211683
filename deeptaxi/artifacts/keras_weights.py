"""The weights of a `.keras` file, `model.weights.h5`: looked through before Keras reads them.

HDF5 can name other files for what it holds, and say that it holds more than it does. Keras takes memory for a layer as
soon as it knows its sizes, which `config.json` tells, long before it looks whether there are such weights.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deeptaxi.archives import ArchiveError, told

WEIGHTS, MAX_BYTES = "model.weights.h5", 2**32
SPARE = 2**24  # bytes of a file beyond its weights: their names
OTHERS = 6  # times its weights that a file may hold: what an optimizer keeps of each as well
MAX_GROUPS = 10_000  # a layer has two
BOMB_SIZE, BOMB_RATIO = 2**28, 100  # what is larger, and packed more tightly, is no network that has learned anything
MAX_WIDTH = 2**24  # numbers that a layer may pass on for one state
FILLING = 2**20  # bytes of weights beyond those in the file, of layers that keep some from it


def check_weights(content: bytes, limit: int | None = None) -> int:
    """Check that HDF5 finds all weights in the file itself, as plain numbers; return how many there are.

    Args:
        content: the file.
        limit: bytes that they may take; None for the most that is ever read.

    Raises:
        ArchiveError: it does not, or the file is damaged.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            items = [check_item(group, name) for group in groups(file, h5py) for name in group]
    except ArchiveError:
        raise
    except Exception as error:  # h5py has many kinds, by the part of the file that is wrong
        raise ArchiveError(f"its {WEIGHTS} is damaged ({' '.join(str(error).split())[:200]})") from None
    size = sum(count * width for count, width in items)
    if size > (limit or MAX_BYTES) or (size > BOMB_SIZE and size > BOMB_RATIO * len(content)):
        raise ArchiveError(f"its {WEIGHTS} unpacks from {told(len(content))} to {told(size)}")
    return sum(count for count, _ in items)


def groups(file: Any, h5py: Any) -> Iterator[Any]:
    """Yield all groups of an HDF5 file, each once: a damaged one may hold itself."""
    waiting, seen = [file], set()
    while waiting:
        group = waiting.pop()
        key = h5py.h5o.get_info(group.id).addr
        if key in seen:
            continue
        seen.add(key)
        if len(seen) > MAX_GROUPS:
            raise ArchiveError(f"its {WEIGHTS} holds more than {MAX_GROUPS:,} groups")
        yield group
        waiting += [group[name] for name in group if group.get(name, getclass=True) is h5py.Group]


def check_item(group: Any, name: str) -> tuple[int, int]:
    """Check one entry of a group; return how many numbers it holds, and of how many bytes."""
    import h5py

    where = f"{group.name}/{name}".replace("//", "/")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ArchiveError(f"its {WEIGHTS} links to something else at {where!r}: refused")
    item = group[name]
    if isinstance(item, h5py.Group):
        return 0, 0
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biuf":
        is_half = isinstance(item, h5py.Dataset) and item.dtype == "V2"
        hint = " (as bfloat16 is to HDF5: save it as float32)" if is_half else ""
        raise ArchiveError(f"its {WEIGHTS} holds something else than numbers at {where!r}{hint}")
    if item.external or item.is_virtual:
        raise ArchiveError(f"its {WEIGHTS} takes {where!r} from another file: refused")
    return math.prod(item.shape), item.dtype.itemsize


@contextmanager
def weights_limited(size: int) -> Iterator[None]:
    """Let Keras' layers create no more than `size` bytes of weights, and some filling, as long as the block runs.

    Raises:
        ValueError: in the block, by the layer that goes beyond it.
    """
    import keras

    add_weight, left = keras.Layer.add_weight, size + FILLING

    def checked(layer: Any, shape: Any = None, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        dtype = kwargs.get("dtype") or (args[1] if len(args) > 1 else None) or layer.variable_dtype
        left -= math.prod(shape or ()) * itemsize(dtype)
        if left < 0:
            raise ValueError(f"the layer '{layer.name}' is larger than the weights in the file")
        return add_weight(layer, shape, *args, **kwargs)

    keras.Layer.add_weight = checked
    try:
        yield
    finally:
        keras.Layer.add_weight = add_weight


def itemsize(dtype: Any) -> int:
    """Return the bytes of a number of one of Keras' types, such as 4 of ``float32``."""
    bits = re.search(r"\d+", str(dtype))
    return max(1, int(bits[0]) // 8) if bits else 1


def size_of(model: Any) -> int:
    """Return the bytes that the weights of a model take."""
    return sum(math.prod(variable.shape) * itemsize(variable.dtype) for variable in model.variables)


def check_widths(model: Any) -> None:
    """Refuse a model that passes on more than `MAX_WIDTH` numbers for one state, which need no weights.

    Raises:
        ValueError: it does.
    """
    for tensor in tensors(model):
        if math.prod(side for side in tensor.shape[1:] if side is not None) > MAX_WIDTH:
            raise ValueError(f"it computes {list(tensor.shape)} numbers on the way, where {MAX_WIDTH:,} are enough")


def tensors(model: Any) -> Iterator[Any]:
    """Yield what the layers and computations of a model return, those of models within it included."""
    import keras

    for operation in getattr(model, "operations", model.layers):
        if isinstance(operation, keras.Model):
            yield from tensors(operation)
        for node in operation._inbound_nodes:
            yield from node.output_tensors
