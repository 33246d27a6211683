"""The Keras backend, and everything that differs between backends: start-up, threads, gradients, compilation.

One of the few modules that distinguish TensorFlow, JAX and PyTorch (the others: `xla`, `program`, `storage.formats`).
Importing it imports none of them: `start()` does, once, silently, and only when a command has something to compute.
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

from deeptaxi.backend import exactness, importing
from deeptaxi.backend.cache import WORKING, Cache, default_root, open_cache
from deeptaxi.backend.exactness import ONE_THREAD, chosen_backend, describe_flags, text_of
from deeptaxi.backend.importing import hide_modules, hold_signals, pause_collector, standard_error_aside
from deeptaxi.errors import DeepTaxiError, UsageError, nearest

BACKENDS = ("tensorflow", "jax", "torch")
THREADS = 1  # more threads do not help networks this small, and could change the last bits of a result
STEERING = {"tensorflow": "(TF_)?XLA_FLAGS", "jax": "XLA_FLAGS|JAX_.+", "torch": "(?!)"}  # variables that may crash it
FATAL = re.compile(r"^F.*?\] (?:Check failed: .*\) )?(.*(?:\nusage: .*)?)", re.MULTILINE)  # the process's last message
CACHE_FLAG = "--tf_xla_persistent_cache_directory"
SHARED = 8  # compiled functions kept for reuse, one per kind
LARGEST = 2**25  # bytes of variables: a function with more is not kept for reuse
_cache: Cache | None = None
_shared: dict[Hashable, Any] = {}


def start() -> None:
    """Import Keras and its backend with a fixed number of threads and nothing on standard error.

    Raises:
        UsageError: ``KERAS_BACKEND`` names a backend that is unknown or not installed, or the backend rejects one of
            its environment variables.
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
        # Keras imports TensorFlow if it can, which takes seconds and is useless on another backend.
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
    """Set the number of threads before the first computation."""
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
    """Return the flags of a variable without those added by a parent deeptaxi process."""
    inherited = rf"\s*{CACHE_FLAG}='[^']*{WORKING}[^']*'"  # the parent's folder may be gone
    return re.sub(inherited, "", text).strip()


def flag_error(name: str) -> str | None:
    """Return the backend's error about its environment variables, or None if it starts with them.

    An unknown flag ends the process, so the test compilation runs in a fork.
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
        warnings.simplefilter("ignore")  # about forking with threads: the backend has none yet
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
    """Make the backend read its environment variables."""
    if name == "tensorflow":
        import tensorflow as tf

        tf.function(lambda: tf.constant(1.0) + 1.0, jit_compile=True, autograph=False)()
    else:
        import jax

        jax.jit(lambda number: number + 1.0)(1.0)


def _keep_programs(name: str) -> None:
    """Set the compiler's cache folder before the first compilation, unless the user has set one."""
    global _cache
    if name == "tensorflow":
        _cache = _tensorflow_cache()
    elif name == "jax":
        _cache = _jax_cache()
    if _cache is not None:
        atexit.register(_cache.close)


def _tensorflow_cache() -> Cache | None:
    """Open the cache and add its folder to the flags, which TensorFlow reads on its first compilation."""
    import tensorflow as tf

    flags = own_flags(text_of("TF_XLA_FLAGS"))
    opened = None
    if CACHE_FLAG not in flags and "'" not in os.path.realpath(str(default_root())):  # flags cannot escape it
        opened = open_cache("tensorflow", tf.__version__, str(THREADS), describe_flags(exactness.flags("tensorflow")))
    if opened is not None:
        flags = f"{flags} {CACHE_FLAG}='{opened.working}'"
    os.environ["TF_XLA_FLAGS"] = flags.strip()
    return opened


def _jax_cache() -> Cache | None:
    """Open the cache and point JAX at its folder."""
    import jax

    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]  # made at run time
        return None
    opened = open_cache("jax", jax.__version__, str(THREADS), describe_flags(exactness.flags("jax")))
    if opened is not None:
        jax.config.update("jax_compilation_cache_dir", str(opened.working))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # dozens of small ones take a second
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # otherwise the folder is part of the key
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    return opened


def name() -> str:
    """Return the name of Keras' backend."""
    import keras

    return str(keras.backend.backend())


def check_float32() -> None:
    """Refuse to train in any dtype but float32.

    Raises:
        UsageError: the Keras settings file, or the calling process, sets another dtype.
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


def gradients(loss: Callable[[], Any], variables: Sequence[Any], updated: Sequence[Any] = ()) -> tuple[Any, list[Any]]:
    """Return ``loss()`` and its dense gradients with respect to the Keras `variables`, in their order.

    Args:
        loss: returns a scalar.
        variables: Keras variables.
        updated: other variables that ``loss()`` assigns, such as moving averages and states of random generators.
    """
    if name() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            result = loss()
        inputs = [variable.value for variable in variables]
        found = tape.gradient(result, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return result, [tf.convert_to_tensor(gradient) for gradient in found]
    if name() == "jax":
        import jax
        import keras

        now = [variable.value for variable in updated]  # a scope does not see the one around it

        def pure(values: Sequence[Any]) -> tuple[Any, list[Any]]:
            mapping = [*zip(variables, values, strict=True), *zip(updated, now, strict=True)]
            with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
                return loss(), [scope.get_current_value(variable) for variable in updated]

        (result, later), found = jax.value_and_grad(pure, has_aux=True)([variable.value for variable in variables])
        for variable, value in zip(updated, later, strict=True):
            variable.assign(value)
        return result, list(found)
    import torch

    result = loss()
    found = torch.autograd.grad(
        result, [variable.value for variable in variables], allow_unused=True, materialize_grads=True
    )
    return result.detach(), list(found)


def compiled(function: Callable[..., Any], state: Sequence[Any], kind: Hashable = None) -> Callable[..., Any]:
    """Compile `function`, which may read and assign the Keras variables `state` and no others.

    Arguments and results are arrays; each new combination of shapes is compiled separately. On PyTorch the function
    runs uncompiled.

    Args:
        function: the function to compile.
        state: its variables.
        kind: identifies functions that do the same computation on different variables. Each kind is compiled only
            once, since compiling takes longer than many trainings. None: not shared.
    """
    if name() == "torch":
        import keras

        return lambda *arguments: function(*(keras.ops.convert_to_tensor(argument) for argument in arguments))
    making = _TensorFlowFunction if name() == "tensorflow" else _JaxFunction
    found = _shared.pop(kind, None) or making(function, state)
    if kind is not None and sum(_bytes(variable) for variable in state) <= LARGEST:
        _shared[kind] = found
        while len(_shared) > SHARED:  # drop the least recently used
            del _shared[next(iter(_shared))]
    return found.on(state)


def _bytes(variable: Any) -> int:
    return 4 * int(math.prod(variable.shape))


class _TensorFlowFunction:
    """A function compiled by XLA that can be called on any owner's variables.

    A concrete function captures variable handles; before each call they are replaced by the caller's.
    """

    def __init__(self, function: Callable[..., Any], state: Sequence[Any]) -> None:
        import tensorflow as tf

        self._traced = tf.function(function, jit_compile=True, autograph=False)
        self._first = handles(state)
        self._concrete: dict[tuple[Any, ...], tuple[Any, list[tuple[int | None, Any]]]] = {}
        self._holding: dict[tuple[Any, ...], Sequence[Any]] = {}  # whose handles each concrete function holds

    def on(self, state: Sequence[Any]) -> Callable[..., Any]:
        """Bind the function to the variables `state`."""
        import tensorflow as tf

        own = handles(state)

        def call(*arguments: Any) -> Any:
            tensors = [tf.convert_to_tensor(argument) for argument in arguments]
            shapes = tuple(tensor.shape for tensor in tensors)
            # Calling the concrete function skips the tracer's lookup, which takes longer than an update itself.
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
    """Return the TensorFlow resource handles of Keras variables."""
    return [variable.value.handle for variable in state]


class _JaxFunction:
    """A function compiled by JAX, pure in its variables, that can be called on any owner's variables."""

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
        """Bind the function to the variables `state`."""

        def call(*arguments: Any) -> Any:
            result, values = self._pure([variable.value for variable in state], arguments)
            for variable, value in zip(state, values, strict=True):
                variable.assign(value)
            return result

        return call


def first_call(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """Call a TensorFlow function for the first time, which compiles it; on failure, retry without the cache.

    TensorFlow reports any cache problem as a failure of the function, before it has computed anything.
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
    """Enable float64 within a ``with`` block; only JAX needs this."""
    if name() != "jax":
        return contextlib.nullcontext()
    import jax

    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)  # type: ignore[no-any-return]
    from jax.experimental import enable_x64  # type: ignore[attr-defined]  # before JAX 0.8

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


def with_stateless_apply(optimizer: type) -> type:
    """Return the class of a Keras optimizer whose `stateless_apply` works on every backend.

    Keras assigns the variables of an optimizer by functions of the backend, which on TensorFlow and PyTorch change the
    variables themselves. Keras' own functions for all backends change what a stateless scope holds; here they replace
    the others.
    """
    import keras

    if name() == "jax":
        return optimizer
    classes = optimizer.__mro__
    ours = classes[classes.index(keras.optimizers.Optimizer) + 1]  # what Keras adds on this backend
    common = next(cls for cls in reversed(classes) if "stateless_apply" in vars(cls))
    replaced = {key: vars(common)[key] for key in vars(ours) if key in vars(common) and not key.startswith("__")}
    return type(optimizer.__name__, (optimizer, type(ours.__name__, (ours,), replaced)), {})
