"""What a `.keras` file may hold, looked through before Keras is given it.

A `.keras` file is a zip archive of three members: `config.json` names the classes and functions to be made and how they
are joined, `model.weights.h5` holds the weights, `metadata.json` the version of Keras. Keras' safe mode refuses
lambdas. Beyond that it makes what the file names, as large as the file says, and opens files that the file names
(vocabularies, SavedModels). So here everything is refused that a network on state numbers has no use for:

- members other than the three, and more or larger ones than such a network has;
- classes and functions that are neither deeptaxi's, nor on the list of Keras' own below, nor registered with Keras by
  the process itself; among Keras' own, those that run code or read files;
- models within models that multiply: ten that each call the one below twice are a thousand;
- weights that are not in the file, layers that are larger than those, and tensors that are larger than any of use
  (`keras_weights`).
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any
from zipfile import ZipFile

from deeptaxi.archives import ArchiveError, told
from deeptaxi.artifacts import keras_weights
from deeptaxi.artifacts.keras_weights import BOMB_RATIO, BOMB_SIZE, WEIGHTS

CONFIG, METADATA = "config.json", "metadata.json"
MAX_CONFIG, MAX_METADATA = 2**20, 2**16  # bytes; a layer takes some 600 in config.json
MAX_OBJECTS, MAX_DEPTH, MAX_MODELS = 10_000, 64, 4  # a layer is some 7 objects; an exported agent is 2 models deep

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
OURS = {("deeptaxi.network.layers", name) for name in ("OneHotDense", "Dueling", "ActionMask")}
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
}  # run functions
FUNCTIONS = ("activations", "losses", "metrics")
MAKERS = ("deserialize", "get", "serialize")  # in the same modules; they take no tensors
VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__slice__", "__bytes__"}  # no classes


def limits() -> dict[str, int]:
    """Return the members of a `.keras` file, and the bytes that each may take."""
    return {CONFIG: MAX_CONFIG, METADATA: MAX_METADATA, WEIGHTS: keras_weights.MAX_BYTES}


def read_config(archive: ZipFile) -> bytes:
    """Look through a `.keras` file but for its weights; return its `config.json`. Keras must have been imported.

    Raises:
        ArchiveError: it is damaged, or holds something that is not loaded; the message is the reason alone.
    """
    check_three(archive)
    config, metadata = (archive.read(name) for name in (CONFIG, METADATA))
    check_config(parsed(config, CONFIG))
    parsed(metadata, METADATA)
    return config


def check_three(archive: ZipFile) -> None:
    """Check that the members are the three that Keras writes, none of them too large."""
    for name in set(archive.namelist()) - set(limits()):
        raise ArchiveError(f"it holds {name!r}, which is not a part of a network")
    for name in sorted(set(limits()) - set(archive.namelist())):
        raise ArchiveError(f"it is no .keras file: it holds no {name}")
    for name, limit in limits().items():
        member = archive.getinfo(name)
        if member.file_size > limit:
            raise ArchiveError(f"its {name} takes {told(member.file_size)}, where at most {told(limit)} are read")
        if member.file_size > BOMB_SIZE and member.file_size > BOMB_RATIO * member.compress_size:
            raise ArchiveError(f"its {name} unpacks from {told(member.compress_size)} to {told(member.file_size)}")


def parsed(text: bytes, name: str) -> dict[str, Any]:
    """Return the object that a JSON text holds."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"its {name} is damaged ({error})") from None
    if not isinstance(value, dict):
        raise ArchiveError(f"its {name} is damaged (it holds no object)")
    return value


def check_config(config: Mapping[str, Any]) -> None:
    """Check everything that `config.json` asks for; how the model was compiled is passed over, as Keras is told to.

    Raises:
        ArchiveError: it asks for something that is not loaded.
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
    """Yield all objects of a JSON text, with how deep they are, and in how many models."""
    if isinstance(value, dict):
        models += name_of(value) in MODELS
        yield value, depth, models
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        yield from objects(item, depth + 1, models)


def name_of(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return the module and the name that an object asks for; of a function, the function's."""
    inner = found.get("config") if found.get("class_name") == "function" else found.get("class_name")
    return str(found.get("module")), str(inner)


def check_class(found: Mapping[str, Any]) -> None:
    """Refuse an object of a class, or a function, that is not loaded."""
    import keras

    module, name = name_of(found)
    registered = str(found.get("registered_name") or name)
    if found["class_name"] in VALUES and registered == name:
        return
    if registered.startswith("deeptaxi>"):
        if (module, name) in OURS and registered == f"deeptaxi>{name}":
            return
    elif registered in keras.saving.get_custom_objects():  # by whoever runs this, who has its code
        return
    elif found["class_name"] == "function":
        if is_function(module, name):
            return
    elif (module, name) in SINGLE or (module == "keras.layers" and name in LAYERS) or is_class(module, name):
        return
    if module.partition(".")[0] == "keras":
        raise ArchiveError(f"it asks for {module}.{name}, which no network on state numbers needs: refused")
    asked = registered if module == "None" else f"{module}.{name}"
    raise ArchiveError(f"it asks for code that is not Keras' or deeptaxi's: {asked}: refused")


def is_function(module: str, name: str) -> bool:
    """Whether it is a function by which a layer is activated, or was trained."""
    import keras

    if name in MAKERS:
        return False
    areas = FUNCTIONS if module == "builtins" else [area for area in FUNCTIONS if module == f"keras.{area}"]
    return any(inspect.isfunction(getattr(getattr(keras, area), name, None)) for area in areas)


def is_class(module: str, name: str) -> bool:
    """Whether it is a class of one of Keras' modules that are loaded as a whole, or a computation on tensors."""
    import keras

    if module in OPERATIONS:
        found = getattr(importlib.import_module(module), name, None)
        return inspect.isclass(found) and issubclass(found, keras.Operation) and name not in CONTROL
    place = next((getattr(keras, area) for area in WHOLE if module == f"keras.{area}"), None)
    if module == "keras.optimizers.schedules":
        place = keras.optimizers.schedules
    return inspect.isclass(getattr(place, name, None))


def check_model(found: Mapping[str, Any], models: int) -> None:
    """Refuse models within models that are called more than once, or stand too deep."""
    if name_of(found) not in MODELS:
        return
    calls = found.get("inbound_nodes", ())
    if models > MAX_MODELS or "shared_object_id" in found or (isinstance(calls, list) and len(calls) > 1):
        raise ArchiveError("it holds models within models, which multiply: refused")
