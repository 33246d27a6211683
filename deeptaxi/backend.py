"""Which Keras backend runs, and all that differs between backends: start-up, threads, gradients, compilation.

Of the few files that know TensorFlow from JAX and PyTorch (`xla`, `program` and `storage.export` are the others).
Importing this module imports none of them: `start()` does, once, quietly, and only when a command has something to
compute.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from deeptaxi import exactness, importing
from deeptaxi.cache import WORKING, Cache, default_root, open_cache
from deeptaxi.errors import DeepTaxiError, UsageError, nearest
from deeptaxi.exactness import ONE_THREAD, chosen_backend, describe_flags, text_of
from deeptaxi.importing import hide_modules, hold_signals, pause_collector, standard_error_aside

BACKENDS = ("tensorflow", "jax", "torch")
THREADS = 1  # more do not help networks of this size, and another number could change the last bits of a result
STEERING = {"tensorflow": "(TF_)?XLA_FLAGS", "jax": "XLA_FLAGS|JAX_.+", "torch": "(?!)"}  # variables that may end it
FATAL = re.compile(r"^F.*?\] (?:Check failed: .*\) )?(.*(?:\nusage: .*)?)", re.MULTILINE)  # its last words
CACHE_FLAG = "--tf_xla_persistent_cache_directory"
SHARED = 8  # compiled functions that are kept for those of their kind
LARGEST = 2**25  # bytes of variables, with which the first of a kind is kept
_cache: Cache | None = None
_shared: dict[Hashable, Any] = {}


def start() -> None:
    """Import Keras with its backend, with a fixed number of threads and nothing on standard error.

    Raises:
        UsageError: ``KERAS_BACKEND`` names an unknown backend or one that is not installed, or the backend refuses a
            variable that steers it.
    """
    if "keras" in sys.modules:
        return
    wanted = chosen_backend()
    if wanted not in BACKENDS:
        raise UsageError(f"KERAS_BACKEND={wanted} is not one of {', '.join(BACKENDS)}{nearest(wanted, BACKENDS)}")
    if importlib.util.find_spec(wanted) is None:
        raise UsageError(
            f"KERAS_BACKEND={wanted}: the package '{wanted}' is not installed; install it, or unset KERAS_BACKEND"
        )
    os.environ["KERAS_BACKEND"] = wanted
    steered = [name for name, text in os.environ.items() if re.fullmatch(STEERING[wanted], name) and own_flags(text)]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if wanted != "tensorflow":
        # Keras imports TensorFlow where it can, which costs seconds and is of no use on another backend.
        sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]
    unused = (*importing.unused, "jax") if wanted == "tensorflow" else importing.unused  # TensorFlow Lite imports JAX
    with hold_signals(), standard_error_aside(), pause_collector(), hide_modules(*unused):
        _fix_threads(wanted)
        refusal = flag_error(wanted) if steered else None
        if refusal is None:
            _keep_programs(wanted)
            import keras  # noqa: F401  # the import is the start
    if refusal is not None:
        raise UsageError(f"{wanted} refuses {' or '.join(steered)}: {refusal}; correct that, or unset it")


def _fix_threads(name: str) -> None:
    """Set the number of threads, before the first computation."""
    if name == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(THREADS)
        tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    elif name == "torch":
        import torch

        torch.set_num_threads(THREADS)
    else:
        for variable, text in ONE_THREAD["jax"].items():
            os.environ.setdefault(variable, text)


def own_flags(text: str) -> str:
    """Return the text of a variable without the flags that a process of ours has put in which started this one."""
    inherited = rf"\s*{CACHE_FLAG}='[^']*{WORKING}[^']*'"  # its folder may be gone
    return re.sub(inherited, "", text).strip()


def flag_error(name: str) -> str | None:
    """Return what the backend has against the variables that steer it; None where it starts with them.

    It ends the process where it does not know a flag, so it compiles something in a fork.
    """
    if name == "jax":
        try:
            import jax  # noqa: F401
        except ValueError as error:
            return str(error)
    if not hasattr(os, "fork"):
        return None
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads in a process that forks: the backend has none yet
        child = os.fork()
    if not child:
        try:
            os.dup2(writing, 2)
            _compile_something(name)
        except Exception as error:
            os.write(2, f"F] {error}".encode())
            os._exit(1)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as stream:
        said = FATAL.search(stream.read())
    return (said[1] if said else "it ends the process") if os.waitpid(child, 0)[1] else None


def _compile_something(name: str) -> None:
    """Let the backend read its variables."""
    if name == "tensorflow":
        import tensorflow as tf

        tf.function(lambda: tf.constant(1.0) + 1.0, jit_compile=True, autograph=False)()
    else:
        import jax

        jax.jit(lambda number: number + 1.0)(1.0)


def _keep_programs(name: str) -> None:
    """Give the compiler a folder to keep programs in, before it first compiles, unless the user has given it one."""
    global _cache
    if name == "tensorflow":
        _cache = _tensorflow_cache()
    elif name == "jax":
        _cache = _jax_cache()
    if _cache is not None:
        atexit.register(_cache.close)


def _tensorflow_cache() -> Cache | None:
    """Open the cache and name its folder in the flags, which TensorFlow reads as it first compiles."""
    import tensorflow as tf

    flags = own_flags(text_of("TF_XLA_FLAGS"))
    opened = None
    if CACHE_FLAG not in flags and "'" not in os.path.realpath(str(default_root())):  # which could not be quoted
        opened = open_cache("tensorflow", tf.__version__, str(THREADS), describe_flags(exactness.flags("tensorflow")))
    if opened is not None:
        flags = f"{flags} {CACHE_FLAG}='{opened.working}'"
    os.environ["TF_XLA_FLAGS"] = flags.strip()
    return opened


def _jax_cache() -> Cache | None:
    """Open the cache and name its folder to JAX."""
    import jax

    if jax.config.jax_compilation_cache_dir is not None:
        return None
    opened = open_cache("jax", jax.__version__, str(THREADS), describe_flags(exactness.flags("jax")))
    if opened is not None:
        jax.config.update("jax_compilation_cache_dir", str(opened.working))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # dozens of small ones take a second
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # else the folder is part of the key
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    return opened


def name() -> str:
    """Return the backend that Keras runs on."""
    import keras

    return str(keras.backend.backend())


def check_float32() -> None:
    """Refuse to train where Keras is told to compute in another type: networks and updates are of float32.

    Raises:
        UsageError: it is, by its settings file or by the process that uses us.
    """
    import keras

    float_type, policy = keras.config.floatx(), keras.config.dtype_policy().name
    if float_type != "float32":
        raise UsageError(
            f"Keras is set to {float_type} (floatx), and deeptaxi trains in float32: set floatx to float32 in "
            "~/.keras/keras.json, or by keras.config.set_floatx"
        )
    if policy != "float32":
        raise UsageError(
            f"Keras is set to the dtype policy {policy}, and deeptaxi trains in float32: "
            "call keras.config.set_dtype_policy('float32') first"
        )


def gradients(loss: Callable[[], Any], variables: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Return ``loss()`` and its dense gradients with respect to Keras `variables`, in their order."""
    if name() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            result = loss()
        found = tape.gradient(result, [variable.value for variable in variables])
        return result, [tf.convert_to_tensor(gradient) for gradient in found]
    if name() == "jax":
        import jax
        import keras

        def pure(values: Sequence[Any]) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return loss()

        result, found = jax.value_and_grad(pure)([variable.value for variable in variables])
        return result, list(found)
    import torch

    result = loss()
    return result.detach(), list(torch.autograd.grad(result, [variable.value for variable in variables]))


def compiled(function: Callable[..., Any], state: Sequence[Any], kind: Hashable = None) -> Callable[..., Any]:
    """Compile `function`, which may read and assign the Keras variables `state` and no others.

    Arguments and results are arrays; each new combination of shapes is compiled anew. On PyTorch the function runs
    as it is.

    Args:
        function: what to compile.
        state: its variables.
        kind: identifies functions that compute the same on variables of their own. Those of one kind are compiled
            once, as that takes longer than many trainings do. None shares nothing.
    """
    if name() == "torch":
        import keras

        return lambda *arguments: function(*(keras.ops.convert_to_tensor(argument) for argument in arguments))
    making = _TensorFlowFunction if name() == "tensorflow" else _JaxFunction
    found = _shared.pop(kind, None) or making(function, state)
    if kind is not None and sum(_bytes(variable) for variable in state) <= LARGEST:
        _shared[kind] = found
        while len(_shared) > SHARED:  # let go of the one that was not asked for the longest
            del _shared[next(iter(_shared))]
    return found.on(state)


def _bytes(variable: Any) -> int:
    return 4 * math.prod(variable.shape)


class _TensorFlowFunction:
    """A function compiled by XLA, called on the variables of any owner.

    A concrete function captures the handles of variables; before a call, those of the caller take their places.
    """

    def __init__(self, function: Callable[..., Any], state: Sequence[Any]) -> None:
        import tensorflow as tf

        self._traced = tf.function(function, jit_compile=True, autograph=False)
        self._first = handles(state)
        self._concrete: dict[tuple[Any, ...], tuple[Any, list[tuple[int | None, Any]]]] = {}
        self._holding: dict[tuple[Any, ...], Sequence[Any]] = {}  # whose handles each concrete function has

    def on(self, state: Sequence[Any]) -> Callable[..., Any]:
        """Return the function on the variables `state`."""
        import tensorflow as tf

        own = handles(state)

        def call(*arguments: Any) -> Any:
            tensors = [tf.convert_to_tensor(argument) for argument in arguments]
            shapes = tuple(tensor.shape for tensor in tensors)
            # Calling the concrete function skips the tracer's look-up, which takes longer than an update itself.
            known = shapes in self._concrete
            if not known:
                self._trace(shapes, tensors)
            concrete, captures = self._concrete[shapes]
            if self._holding[shapes] is not own:
                concrete.set_external_captures([item if at is None else own[at] for at, item in captures])
                self._holding[shapes] = own
            return concrete(*tensors) if known else first_call(concrete, tensors)

        return call

    def _trace(self, shapes: tuple[Any, ...], tensors: Sequence[Any]) -> None:
        concrete = self._traced.get_concrete_function(*tensors)
        places = {id(handle): at for at, handle in enumerate(self._first)}
        self._concrete[shapes] = concrete, [(places.get(id(item)), item) for item in concrete.captured_inputs]
        self._holding[shapes] = self._first


def handles(state: Sequence[Any]) -> list[Any]:
    """Return the resource handles of Keras variables on TensorFlow."""
    return [variable.value.handle for variable in state]


class _JaxFunction:
    """A function compiled by JAX, pure in its variables, called on the variables of any owner."""

    def __init__(self, function: Callable[..., Any], state: Sequence[Any]) -> None:
        import jax
        import keras

        @jax.jit
        def pure(values: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, list[Any]]:
            scope = keras.StatelessScope(state_mapping=list(zip(state, values, strict=True)))
            with scope:
                result = function(*arguments)
            return result, [scope.get_current_value(variable) for variable in state]

        self._pure = pure

    def on(self, state: Sequence[Any]) -> Callable[..., Any]:
        """Return the function on the variables `state`."""

        def call(*arguments: Any) -> Any:
            result, values = self._pure([variable.value for variable in state], arguments)
            for variable, value in zip(state, values, strict=True):
                variable.assign(value)
            return result

        return call


def first_call(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """Call a TensorFlow function, which compiles it; if that fails with the cache, once more without.

    TensorFlow takes any trouble with its cache for a failure of the function. It has computed nothing by then.
    """
    import tensorflow as tf

    try:
        return function(*tensors)
    except tf.errors.OpError:
        if _cache is None:
            raise
        _cache.abandon()
        result = function(*tensors)
        _cache.forget()
        return result


def float64() -> AbstractContextManager[Any]:
    """Let the backend compute in float64 inside of a ``with`` block; all but JAX do so anyway."""
    if name() != "jax":
        return contextlib.nullcontext()
    import jax

    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)  # type: ignore[no-any-return]
    from jax.experimental import enable_x64  # before JAX 0.8

    return enable_x64()  # type: ignore[no-any-return]


def input_gradient(function: Callable[..., Any], inputs: Sequence[Any]) -> list[Any]:
    """Return the gradients of a scalar ``function(*inputs)`` with respect to float64 arrays, as NumPy arrays.

    Raises:
        DeepTaxiError: the backend computes in less than float64; see `float64`.
    """
    import keras
    import numpy as np

    variables = [keras.Variable(value, dtype="float64") for value in inputs]
    _, found = gradients(lambda: function(*[variable.value for variable in variables]), variables)
    arrays = [np.asarray(keras.ops.convert_to_numpy(gradient)) for gradient in found]
    if any(array.dtype != np.float64 for array in arrays):
        raise DeepTaxiError("this backend computed in less than float64")
    return arrays
