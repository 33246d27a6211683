"""Load an untrusted `.keras` file, which may even change while it is read.

A `.keras` file is a zip archive of three members: `config.json` names the classes and functions to build and how they
are connected, `model.weights.h5` holds the weights, `metadata.json` the version of Keras. Keras' safe mode rejects
lambdas. Beyond that, it builds whatever the file names, as large as the file says, and opens files that the file names
(vocabularies, SavedModels). So everything is rejected that a network on state numbers does not need:

- members other than these three, and larger ones than such a network has;
- classes and functions that are neither deeptaxi's, nor on the list of Keras' own below, nor registered with Keras by
  the process itself; among Keras' own, those that run code or read files;
- nested models that multiply: ten models that each call the next one twice make a thousand;
- weights that are not in the file, layers that are larger than those, and tensors that are larger than any useful one.
  HDF5 can refer to other files for its content, and declare more content than it has. Keras allocates a layer as soon
  as it knows the sizes from `config.json`, long before it checks whether there are such weights.

The file is opened once, and what is checked is what is loaded: its configuration and weights are read once, and Keras
receives those very bytes, not the file name.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from deeptaxi.errors import DeepTaxiError
from deeptaxi.io.safe_archive import ArchiveError, format_bytes, open_archive
from deeptaxi.renamed import MODULES as RENAMED

WEIGHTS, MAX_BYTES = "model.weights.h5", 2**32
SPARE = 2**24  # bytes of a file beyond its weights, for their names
OTHERS = 6  # maximum ratio of the file's content to the weights: optimizers store several values per weight
MAX_GROUPS = 10_000  # a layer has two
BOMB_SIZE, BOMB_RATIO = 2**28, 100  # a larger, more compressed file is not a trained network
MAX_WIDTH = 2**24  # maximum output size of a layer per state
FILLING = 2**20  # bytes of weights that layers may have without saving them


def check_weights(content: bytes, limit: int | None = None, name: str = f"its {WEIGHTS}") -> int:
    """Check that all weights are in the HDF5 file itself, as plain numbers; return their count.

    Args:
        content: content of the file.
        limit: maximum size of the weights in bytes; None for the global limit.
        name: what errors call the file.

    Raises:
        ArchiveError: they are not, or the file is damaged.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            items = [check_item(group, name) for group in groups(file, h5py) for name in group]
    except ArchiveError:
        raise
    except Exception as error:  # h5py raises many types, depending on what is wrong
        raise ArchiveError(f"{name} is damaged ({' '.join(str(error).split())[:200]})") from None
    size = sum(count * width for count, width in items)
    if size > (limit or MAX_BYTES) or (size > BOMB_SIZE and size > BOMB_RATIO * len(content)):
        raise ArchiveError(f"{name} unpacks from {format_bytes(len(content))} to {format_bytes(size)}")
    return sum(count for count, _ in items)


def groups(file: Any, h5py: Any) -> Iterator[Any]:
    """Yield each group of an HDF5 file once; a damaged one may contain itself."""
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
    """Check one entry of a group; return its number of elements and their size in bytes."""
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
        raise ArchiveError(f"its {WEIGHTS} holds something other than numbers at {where!r}{hint}")
    if item.external or item.is_virtual:
        raise ArchiveError(f"its {WEIGHTS} takes {where!r} from another file: refused")
    return math.prod(item.shape), item.dtype.itemsize


@contextmanager
def limit_weights(size: int) -> Iterator[None]:
    """Limit the weights that Keras' layers create in the block to `size` bytes, plus some slack.

    Raises:
        ValueError: in the block, when a layer exceeds the limit.
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
    """Return the size in bytes of a Keras dtype, such as 4 for ``float32``."""
    bits = re.search(r"\d+", str(dtype))
    return max(1, int(bits[0]) // 8) if bits else 1


def size_of(model: Any) -> int:
    """Return the size of a model's weights in bytes."""
    return sum(math.prod(variable.shape) * itemsize(variable.dtype) for variable in model.variables)


def check_widths(model: Any) -> None:
    """Reject a model with a tensor of more than `MAX_WIDTH` numbers per state, which may need no weights.

    Raises:
        ValueError: a tensor is too large.
    """
    for tensor in tensors(model):
        if math.prod(side for side in tensor.shape[1:] if side is not None) > MAX_WIDTH:
            raise ValueError(f"it computes {list(tensor.shape)} numbers in between; at most {MAX_WIDTH:,} are allowed")


def tensors(model: Any) -> Iterator[Any]:
    """Yield the outputs of all layers and operations of a model, including nested models."""
    import keras

    for operation in getattr(model, "operations", model.layers):
        if isinstance(operation, keras.Model):
            yield from tensors(operation)
        for node in operation._inbound_nodes:
            yield from node.output_tensors


CONFIG, METADATA = "config.json", "metadata.json"
MAX_CONFIG, MAX_METADATA = 2**20, 2**16  # bytes; a layer takes about 600 in config.json
MAX_OBJECTS, MAX_DEPTH, MAX_MODELS = 10_000, 64, 4  # a layer is about 7 objects; an exported agent is 2 models deep

LAYERS = {
    "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Attention", "Average", "AveragePooling1D",
    "AveragePooling2D", "BatchNormalization", "CategoryEncoding", "Concatenate", "Conv1D", "Conv2D", "Cropping1D",
    "Cropping2D", "Dense", "DepthwiseConv1D", "DepthwiseConv2D", "Discretization", "Dot", "Dropout", "ELU",
    "EinsumDense", "Embedding", "Flatten", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GroupNormalization", "Hashing", "Identity",
    "InputLayer", "LayerNormalization", "LeakyReLU", "Masking", "MaxPooling1D", "MaxPooling2D", "Maximum", "Minimum",
    "MultiHeadAttention", "Multiply", "Normalization", "PReLU", "Permute", "RMSNormalization", "ReLU", "RepeatVector",
    "Rescaling", "Reshape", "SeparableConv1D", "SeparableConv2D", "Softmax", "SpatialDropout1D", "SpatialDropout2D",
    "Subtract", "UnitNormalization", "UpSampling1D", "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D",
}  # fmt: skip
MODELS = {("keras", "Sequential"), ("keras.models", "Sequential"), ("keras.src.models.functional", "Functional")}
SINGLE = MODELS | {("keras", "DTypePolicy"), ("keras.dtype_policies", "DTypePolicy"), ("keras.random", "SeedGenerator")}
OURS = {
    (module, name)
    for module in ("deeptaxi.layers", *(old for old, new in RENAMED.items() if new == "deeptaxi.layers"))
    for name in ("OneHotDense", "Dueling", "ActionMask")
}
WHOLE = ("constraints", "initializers", "losses", "metrics", "optimizers", "regularizers")
OPERATIONS = tuple(f"keras.src.ops.{name}" for name in ("core", "math", "nn", "numpy"))
CONTROL = {
    "AssociativeScan",
    "Cond",
    "ForiLoop",
    "Map",
    "Scan",
    "Switch",
    "VectorizedMap",
    "WhileLoop",
}  # operations that run functions
FUNCTIONS = ("activations", "losses", "metrics")
CODE = ("Lambda", "__lambda__")
MAKERS = ("deserialize", "get", "serialize")  # in the same modules, but not functions of tensors
VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__", "__bytes__"}  # not classes


def limits() -> dict[str, int]:
    """Return the members of a `.keras` file and their maximum sizes in bytes."""
    return {CONFIG: MAX_CONFIG, METADATA: MAX_METADATA, WEIGHTS: MAX_BYTES}


def read_config(archive: ZipFile) -> bytes:
    """Check a `.keras` file except for its weights; return its `config.json`. Keras must have been imported.

    Raises:
        ArchiveError: it is damaged, or holds something that is rejected; the message is only the reason.
    """
    check_three(archive)
    config, metadata = (archive.read(name) for name in (CONFIG, METADATA))
    check_config(parse_config(config, CONFIG))
    parse_config(metadata, METADATA)
    return config


def check_three(archive: ZipFile) -> None:
    """Check that the members are the three that Keras writes, and not too large."""
    for name in set(archive.namelist()) - set(limits()):
        raise ArchiveError(f"it holds {name!r}, which is not a part of a network")
    for name in sorted(set(limits()) - set(archive.namelist())):
        raise ArchiveError(f"it is not a .keras file: it holds no {name}")
    for name, limit in limits().items():
        member = archive.getinfo(name)
        if member.file_size > limit:
            raise ArchiveError(
                f"its {name} takes {format_bytes(member.file_size)}, where at most {format_bytes(limit)} are read"
            )
        if member.file_size > BOMB_SIZE and member.file_size > BOMB_RATIO * member.compress_size:
            raise ArchiveError(
                f"its {name} unpacks from {format_bytes(member.compress_size)} to {format_bytes(member.file_size)}"
            )


def parse_config(text: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"its {name} is damaged ({error})") from None
    if not isinstance(value, dict):
        raise ArchiveError(f"its {name} is damaged (it is not a JSON object)")
    return value


def check_config(config: Mapping[str, Any]) -> None:
    """Check every object in `config.json`, except the compile configuration, which is not loaded.

    Raises:
        ArchiveError: an object is rejected.
    """
    if name_of(config) not in MODELS:
        raise ArchiveError(f"it holds {'.'.join(name_of(config))}, which is not a model of Keras' own layers")
    for count, (found, depth, models) in enumerate(objects({**config, "compile_config": None}), start=1):
        if count > MAX_OBJECTS or depth > MAX_DEPTH:
            raise ArchiveError(f"its {CONFIG} holds more than {MAX_OBJECTS:,} objects, or deeper than {MAX_DEPTH}")
        if "class_name" in found:
            check_class(found)
            check_model(found, models)


def objects(value: Any, depth: int = 0, models: int = 0) -> Iterator[tuple[dict[str, Any], int, int]]:
    """Yield all objects of a JSON value with their depth and model nesting depth."""
    if isinstance(value, dict):
        models += name_of(value) in MODELS
        yield value, depth, models
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        yield from objects(item, depth + 1, models)


def name_of(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return the module and name that an object refers to; for a function, the function's name."""
    inner = found.get("config") if found.get("class_name") == "function" else found.get("class_name")
    return str(found.get("module")), str(inner)


class CodeError(ArchiveError):
    """A model whose layers are functions of Python, which are never run."""


def check_class(found: Mapping[str, Any]) -> None:
    """Reject an object whose class or function is not allowed."""
    import keras

    module, name = name_of(found)
    registered = str(found.get("registered_name") or name)
    if found["class_name"] in VALUES and registered == name:
        return
    if registered.startswith("deeptaxi>"):
        if (module, name) in OURS and registered == f"deeptaxi>{name}":
            return
    elif registered in keras.saving.get_custom_objects():  # registered by the user's own code
        return
    elif found["class_name"] == "function":
        if is_function(module, name):
            return
    elif (module, name) in SINGLE or (module == "keras.layers" and name in LAYERS) or is_class(module, name):
        return
    refusal = CodeError if name in CODE else ArchiveError
    if module.partition(".")[0] == "keras":
        raise refusal(f"it asks for {module}.{name}, which no network on state numbers needs: refused")
    asked = registered if module == "None" else f"{module}.{name}"
    raise refusal(f"it asks for code that is not Keras' or deeptaxi's: {asked}: refused")


def is_function(module: str, name: str) -> bool:
    """Return whether it is an activation, loss or metric function of Keras."""
    import keras

    if name in MAKERS:
        return False
    areas = FUNCTIONS if module == "builtins" else [area for area in FUNCTIONS if module == f"keras.{area}"]
    return any(inspect.isfunction(getattr(getattr(keras, area), name, None)) for area in areas)


def is_class(module: str, name: str) -> bool:
    """Return whether it is a class of an allowed Keras module, or a tensor operation."""
    import keras

    if module in OPERATIONS:
        found = getattr(importlib.import_module(module), name, None)
        return inspect.isclass(found) and issubclass(found, keras.Operation) and name not in CONTROL
    namespace = next((getattr(keras, area) for area in WHOLE if module == f"keras.{area}"), None)
    if module == "keras.optimizers.schedules":
        namespace = keras.optimizers.schedules
    return inspect.isclass(getattr(namespace, name, None))


def check_model(found: Mapping[str, Any], models: int) -> None:
    """Reject nested models that are called more than once or nested too deeply."""
    if name_of(found) not in MODELS:
        return
    calls = found.get("inbound_nodes", ())
    if models > MAX_MODELS or "shared_object_id" in found or (isinstance(calls, list) and len(calls) > 1):
        raise ArchiveError("it nests models within models: refused")


class NotANetworkError(DeepTaxiError):
    """A file from which Keras cannot build a network."""


def load_model(path: Path) -> Any:
    """Load a model in Keras' safe mode, without its compile state. Keras must have been imported.

    Raises:
        ArchiveError: the file is damaged, or holds something that is rejected; the message is only the reason.
        NotANetworkError: Keras cannot build a network from it.
    """
    with open_archive(path, sum(limits().values())) as archive:
        config = read_config(archive)
        size = archive.getinfo(WEIGHTS).file_size
        model = build(config, size)
        most = OTHERS * size_of(model) + SPARE
        if size > most:
            raise ArchiveError(
                f"its {WEIGHTS} takes {format_bytes(size)}, where its network has {format_bytes(size_of(model))}"
            )
        content = archive.read(WEIGHTS)
    check_weights(content, most)
    fill(model, content)
    return model


def build(config: bytes, size: int) -> Any:
    """Build the model of a checked `config.json`, with at most `size` bytes of weights.

    Raises:
        NotANetworkError: Keras cannot build it, or it is larger.
    """
    from keras.src.saving import saving_lib

    try:
        with limit_weights(size):
            model = saving_lib._model_from_config(config, None, compile=False, safe_mode=True)
        check_widths(model)
    except Exception as error:  # Keras raises many types, depending on what is wrong
        raise NotANetworkError(str(error)) from error
    return model


def fill(model: Any, content: bytes) -> None:
    """Load the weights of a model from the checked bytes of its `model.weights.h5`.

    This is what `keras.saving.load_model` does, which only accepts a file name.
    """
    from keras.src.saving import saving_lib

    failed: set[int] = set()
    messages: dict[int, Any] = {}
    store = saving_lib.H5IOStore(io.BytesIO(content), mode="r")
    try:
        saving_lib._load_state(
            model,
            weights_store=store,
            assets_store=None,
            inner_path="",
            visited_saveables=set(),
            failed_saveables=failed,
            error_msgs=messages,
        )
    finally:
        store.close()
    if failed:
        saving_lib._raise_loading_failure(messages)
