"""A Keras model of the user's own as the Q-network that the loops train.

    state [B] ─ encoding ─ the model's layers ─ Q [B, A]
                                              └ [V, A] ─ Dueling ─ Q [B, A]      with two outputs

The encoding is what the model's input asks for (`encodings`): nothing but a cast for state numbers, else Keras
operations. The layers of functional and sequential models are put into one graph; any other class of models is one
layer in it. The result is a functional model from states to Q values, whatever was given, and everything else in
deeptaxi takes it as such. The given model itself is never changed: what is trained is a copy, with its weights.

**What is refused**, before any work:

- a model that cannot be copied from its configuration: the target network is a copy, and the file is read by it;
- other inputs or outputs, weights that are not float32, no weights at all;
- Q values that depend on the other states of a minibatch, which a mean over axis 0 makes them do. Heads often begin at
  0, so that nothing is seen of it: it is tried with other weights too (`check_is_function`).
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from keras.src.models.functional import Functional
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.layers import Dueling
from deeptaxi.network.build import scale_outputs
from deeptaxi.network.encodings import Parts, expectation, kind_of
from deeptaxi.network.named_builder import seed_global
from deeptaxi.network.structure import structure_of
from deeptaxi.network.tabulate import MixedStatesError, call_batch, reason_of, tabulate

SCALE = "reward_scale"  # begins the name of a layer that gives a saved network its unscaled Q values
PROBED = 64  # states in which other weights are tried
NOISE = 0.5  # standard deviation of what is added to a weight, times the root of the fan-in
AXIS = "a mean over the actions is keras.ops.mean(x, axis=-1, keepdims=True), and deeptaxi's Dueling layer takes it"


class ModelInput(NamedTuple):
    """The input that a model takes."""

    shape: tuple[int | None, ...]  # without the batch axis
    dtype: str


def own_network(model: Any, sizes: tuple[int, int], parts: Parts, name: str, seed: int = 0) -> keras.Model:
    """Return a model of the user's own as a network from states `[B]` to Q values `[B, A]`, with its weights.

    Args:
        model: the Keras model; it is left as it is.
        sizes: (S, A).
        parts: the parts of an observation, which it may take.
        name: what errors call it.
        seed: of the random numbers of layers that have no seed, such as dropout.

    Raises:
        UsageError: it is not a model, cannot be copied, or does not map states to Q values.
    """
    if not isinstance(model, keras.Model):
        raise UsageError(f"{name} is {describe(model)}: expected a Keras model, or a function that returns one")
    check_classes(model, name)
    states, actions = sizes
    with seed_global(seed):
        model, expected_input = copy_built(model, states, parts, name)
        set_seeds(model)
        state = keras.Input(shape=(), dtype="int32", name=free_name(model, "state"))
        try:
            outputs = apply_model(model, encode_symbolic(state, expected_input, states, parts))
            q_values = join_outputs(outputs, actions, name, free_name(model, "q_values"))
            whole = keras.Model(state, q_values, name="own_network")
        except UsageError:
            raise
        except Exception as error:  # Keras and the user's layers raise many types
            raise UsageError(f"{name} cannot be called on states: {reason_of(error)}") from error
        network = copy_or_refuse(lambda: copy_network(whole), name)
    if not network.trainable_variables:
        raise UsageError(f"{name} has no trainable weights: there is nothing to learn; leave trainable as True")
    wide = next((str(one.dtype) for one in network.trainable_variables if one.dtype != "float32"), None)
    if wide is not None or str(q_values.dtype) != "float32":
        found = wide or q_values.dtype
        raise UsageError(f"{name} computes in {found}, and deeptaxi trains in float32: build it with dtype='float32'")
    check_embeddings(network, states, name)
    check_is_function(network, states, name, seed)
    return network


def check_classes(model: keras.Model, name: str) -> None:
    """Reject layers that a copy, or a file, could not be read by.

    Raises:
        UsageError: a class is not registered, or a layer holds a function of Python.
    """
    for layer in model._flatten_layers():
        cls = type(layer)
        if isinstance(layer, keras.layers.Lambda):
            raise UsageError(
                f"{name} cannot be cloned: its layer {layer.name} is a Lambda, whose function no file holds safely; "
                "write it with keras.ops, or as a class of layers that is registered"
            )
        check_registered(cls, name)
        check_registered(getattr(layer, "activation", None), name)


def check_registered(part: Any, name: str) -> None:
    """Reject a class or function that Keras does not find by its name.

    Raises:
        UsageError: it is not registered, or another one is.
    """
    module = getattr(part, "__module__", None)
    if not (inspect.isclass(part) or inspect.isfunction(part)) or not isinstance(module, str):
        return
    registered = keras.saving.get_registered_name(part)
    known = keras.saving.get_registered_object(registered)
    if module.partition(".")[0] in ("keras", "deeptaxi") or known is part:
        return
    kind, keyword = ("class", "class") if inspect.isclass(part) else ("activation", "def")
    if known is None and registered == part.__name__:
        raise UsageError(
            f"{name} cannot be cloned: its {kind} {part.__name__} is not registered; write "
            f"@keras.saving.register_keras_serializable() above `{keyword} {part.__name__}`"
        )
    raise UsageError(
        f"{name} cannot be cloned: another {kind} has been registered as {registered} since; build the model again, or "
        "register one of the two under another package"
    )


def copy_built(model: keras.Model, states: int, parts: Parts, name: str) -> tuple[keras.Model, ModelInput]:
    """Return a copy of a model that has its weights, and the input that it takes.

    One that was never called has none yet: it is called with state numbers `[B]`, else with one-hot vectors `[B, S]`.

    Raises:
        UsageError: it cannot be copied or called, or takes another input.
    """
    expected_input = input_of(model, name)
    if expected_input is not None:
        if kind_of(expected_input.shape, states, parts) is None:
            raise UsageError(
                f"{name} takes an input of shape {format_shape(expected_input.shape)}: "
                f"{expectation(states, parts)}; build it for these"
            )
        copy = copy_or_refuse(lambda: keras.models.clone_model(model), name)
        if not copy.built or input_of(copy, name) is None:
            copy(keras.KerasTensor((None, *expected_input.shape), dtype=expected_input.dtype))
        if not same_variables(copy, model):
            raise UsageError(
                f"{name} cannot be cloned: a copy of it has other weights; its class needs a get_config with all "
                "arguments of its constructor"
            )
        copy_variables(copy, model)
        return copy, expected_input
    faults = []
    for one in (ModelInput((), "int32"), ModelInput((states,), "float32")):
        copy = copy_or_refuse(lambda: keras.models.clone_model(model), name)
        try:
            copy(keras.KerasTensor((None, *one.shape), dtype=one.dtype))
        except Exception as error:  # as above
            faults.append(f"{format_shape(one.shape)} ({reason_of(error)})")
        else:
            return copy, one
    raise UsageError(
        f"{name} has not been called yet, and takes neither {faults[0]} nor {faults[1]}: call it once on an example "
        "of its input, or give it a keras.Input"
    )


def set_seeds(model: keras.Model) -> None:
    """Give the layers without a seed, such as dropout, one of their own: some backends draw from elsewhere without."""
    for layer in model._flatten_layers():
        if layer._seed_generators and getattr(layer, "seed", 0) is None:
            layer.seed = random.randint(1, 10**9)  # noqa: S311  # as Keras draws it


def copy_or_refuse(copy: Callable[[], Any], name: str) -> Any:
    """Return a copy.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        return copy()
    except Exception as error:  # as above
        raise UsageError(
            f"{name} cannot be cloned, as its target network is: {reason_of(error)}; register its classes "
            "(@keras.saving.register_keras_serializable()), and give each a get_config with the arguments of its "
            "constructor"
        ) from error


def input_of(model: keras.Model, name: str) -> ModelInput | None:
    """Return the input that a model takes; None if it was never called.

    Raises:
        UsageError: it takes several.
    """
    try:
        inputs = list(model.inputs or ())
    except (AttributeError, ValueError):
        inputs = []
    if len(inputs) > 1:
        raise UsageError(f"{name} takes {len(inputs)} inputs: expected one, the state")
    if inputs:
        return ModelInput(tuple(inputs[0].shape[1:]), str(inputs[0].dtype))
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if not isinstance(shape, list | tuple) or not all(side is None or isinstance(side, int) for side in shape):
        return None
    number = all(side in (1, None) for side in shape[1:])
    return ModelInput(tuple(shape[1:]), "int32" if number else "float32")


def encode_symbolic(state: Any, expected_input: ModelInput, states: int, parts: Parts) -> Any:
    """Return the model's input for symbolic states `[B]`; see `encodings.encode`."""
    kind = kind_of(expected_input.shape, states, parts)
    if kind == "number":
        x = state
    elif kind == "one-hot":
        x = ops.one_hot(state, states, dtype="float32")
    else:
        strides = [math.prod(parts.sizes[at + 1 :]) for at in range(len(parts.sizes))]
        each = [
            ops.mod(ops.floor_divide(state, stride), size) for stride, size in zip(strides, parts.sizes, strict=True)
        ]
        if kind == "parts":
            x = ops.stack([part + first for part, first in zip(each, parts.firsts, strict=True)], axis=-1)
        else:
            hot = [ops.one_hot(part, size, dtype="float32") for part, size in zip(each, parts.sizes, strict=True)]
            x = ops.concatenate(hot, axis=-1)
    if str(x.dtype) != expected_input.dtype:
        x = ops.cast(x, expected_input.dtype)
    if len(expected_input.shape) + 1 != len(x.shape):
        x = ops.reshape(x, (-1, *(int(side or 1) for side in expected_input.shape)))
    return x


def apply_model(model: keras.Model, x: Any) -> list[Any]:
    """Return the outputs of a model for a symbolic input; its layers go into the caller's graph if it is one."""
    graph: Any = getattr(model, "_functional", None) if type(model) is keras.Sequential else model
    if type(graph) is not Functional:
        return list(keras.tree.flatten(model(x)))
    inputs = keras.tree.pack_sequence_as(graph._inputs_struct, [x])
    return list(keras.tree.flatten(graph._run_through_graph(inputs, operation_fn=lambda operation: operation)))


def join_outputs(outputs: Sequence[Any], actions: int, name: str, layer: str) -> Any:
    """Return the Q values `[B, A]` of a model's outputs; of [V, A], V + A − mean(A).

    Raises:
        UsageError: there are other outputs.
    """
    shapes = [tuple(output.shape) for output in outputs]
    expected = f"expected Q values [B, {actions}], or a value [B, 1] and advantages [B, {actions}]"
    if any(len(shape) != 2 or shape[0] is not None for shape in shapes):
        raise UsageError(f"{name} returns {format_outputs(shapes)}, where axis 0 is the minibatch: {expected}")
    widths = [shape[1] for shape in shapes]
    if widths == [actions]:
        return outputs[0]
    if widths == [1, actions]:
        return Dueling(name=layer)(list(outputs))
    if widths == [actions, 1]:
        return Dueling(name=layer)([outputs[1], outputs[0]])
    raise UsageError(f"{name} returns {format_outputs(shapes)}: {expected}")


def check_embeddings(network: keras.Model, states: int, name: str) -> None:
    """Reject an embedding with fewer rows than states: compilers clamp, and two states would share a row.

    Raises:
        UsageError: it has fewer.
    """
    for layer in network.layers:
        if not isinstance(layer, keras.layers.Embedding) or layer.input_dim >= states:
            continue
        operation = layer.input._keras_history.operation
        while type(operation).__name__ in ("Cast", "Reshape"):
            operation = operation.input._keras_history.operation
        if isinstance(operation, keras.layers.InputLayer):
            raise UsageError(
                f"{name}: its layer {layer.name} has {layer.input_dim:,} rows, and there are {states:,} states: build "
                "it for the number of states that it is given"
            )


def check_is_function(network: keras.Model, states: int, name: str, seed: int) -> None:
    """Reject a network that gives a state another answer beside other states, as it is or with other weights.

    Raises:
        UsageError: it does, or its answers are not numbers.
    """
    try:
        q_values = tabulate(network, states)
        perturbed = perturb_weights(network, np.random.default_rng(seed))
        probed = np.unique(np.linspace(0, states - 1, min(states, PROBED)).astype(np.int64))
        together = call_batch(perturbed, probed, states, None, len(probed))
        apart = call_batch(perturbed, probed[::-1], states, None, 1 if len(probed) < 3 else 3)[::-1]
    except MixedStatesError as error:
        raise UsageError(f"{name} mixes states: {error}; {AXIS}") from error
    except DeepTaxiError as error:
        raise UsageError(f"{name}: {error}") from error
    if not np.isfinite(q_values).all():
        state = int((~np.isfinite(q_values)).any(axis=1).argmax())
        raise UsageError(f"{name} returns NaN or infinity for state {state}: look at its layers and initial weights")
    slack = 1e-4 * max(1.0, float(np.abs(together[np.isfinite(together)]).max(initial=0.0)))
    other = ~np.isclose(together, apart, rtol=0, atol=slack, equal_nan=True).all(axis=1)
    if other.any():
        raise UsageError(
            f"{name} mixes states: it gives state {int(probed[other.argmax()])} other Q values beside other states, or "
            f"when it is called again; {AXIS}"
        )


def perturb_weights(network: keras.Model, rng: np.random.Generator) -> keras.Model:
    """Return a copy of a network whose weights have Gaussian noise added."""
    copy = copy_network(network)
    for variable in copy.trainable_variables:
        spread = NOISE / math.sqrt(max(1, variable.shape[0] if len(variable.shape) > 1 else 1))
        spread = NOISE if "embedding" in variable.path else spread
        noise = rng.normal(0, spread, variable.shape).astype(np.float32)
        variable.assign(ops.convert_to_numpy(variable) + noise)
    return copy


def copy_network(network: keras.Model) -> keras.Model:
    """Return a copy of a network on states, with all its variables; without the optimizer, unlike Keras' clone."""
    copy = type(network).from_config(network.get_config())
    copy_variables(copy, network)
    return copy


def same_variables(one: keras.Model, other: keras.Model) -> bool:
    """Whether two models have variables of the same shapes."""
    return [(v.shape, v.dtype) for v in one.variables] == [(v.shape, v.dtype) for v in other.variables]


def copy_variables(copy: keras.Model, network: keras.Model) -> None:
    """Assign the variables of a network, weights and states of random generators, to those of its copy."""
    for new, old in zip(copy.variables, network.variables, strict=True):
        new.assign(ops.convert_to_numpy(old))


def scale_q_values(network: keras.Model, factor: float) -> keras.Model:
    """Return a network with its Q values multiplied by `factor` > 0.

    deeptaxi's own is changed in place (`build.scale_outputs`). Of any other nothing is known but that its outputs are Q
    values: a layer on top multiplies them, one on each stream of a `Dueling` head, and is left out for 1.
    """
    if structure_of(network) is not None:
        scale_outputs(network, factor)
        return network
    head, tensors = head_of(network)
    scales = [tensor._keras_history.operation for tensor in tensors]
    if all(isinstance(layer, keras.layers.Rescaling) and layer.name.startswith(SCALE) for layer in scales):
        factor *= float(scales[0].scale)
        tensors = [layer.input for layer in scales]
    elif factor == 1:
        return network
    if factor != 1:
        names = [SCALE] if head is None else [f"{SCALE}_value", f"{SCALE}_advantage"]
        layers = [keras.layers.Rescaling(factor, name=name) for name in names]
        tensors = [layer(tensor) for layer, tensor in zip(layers, tensors, strict=True)]
    q_values = tensors[0] if head is None else type(head).from_config(head.get_config())(tensors)
    return keras.Model(network.input, q_values, name=network.name)


def head_of(network: keras.Model) -> tuple[Dueling | None, list[Any]]:
    """Return the `Dueling` layer that a network ends in and its inputs [V, A]; else None and the Q values."""
    output = network.outputs[0]
    layer = output._keras_history.operation
    return (layer, list(layer.input)) if isinstance(layer, Dueling) else (None, [output])


def streams_of(network: keras.Model) -> tuple[keras.Model, str] | None:
    """Return a network, sharing the weights, from states to [V, A], and how they are joined; None if not dueling."""
    head, tensors = head_of(network)
    return None if head is None else (keras.Model(network.input, tensors), head.aggregation)


def may_differ_in_training(network: keras.Model) -> bool:
    """Return whether a network may compute something else in training than in inference.

    Keras' own layers that do have variables that are not trained: averages, or the state of a random generator. Layers
    of others may, if they take ``training``.
    """
    layers = network._flatten_layers(include_self=True)
    foreign = [layer for layer in layers if type(layer).__module__.partition(".")[0] not in ("keras", "deeptaxi")]
    asks = any("training" in inspect.signature(layer.call).parameters for layer in foreign)
    return bool(network.non_trainable_variables) or asks


def differs_in_training(network: keras.Model, states: NDArray[np.int32]) -> bool:
    """Return whether training computes something else than inference: dropout, batch normalization, own losses."""
    if network.losses:
        return True
    if not may_differ_in_training(network):
        return False
    copy = copy_network(network)
    inference, training = (ops.convert_to_numpy(copy(states, training=flag)) for flag in (False, True))
    return not np.array_equal(inference, training, equal_nan=True)


def free_name(model: keras.Model, name: str) -> str:
    """Return a name that no layer of a model has."""
    known = {layer.name for layer in model.layers}
    return next(one for one in (name, *(f"{name}_{number}" for number in range(1, len(known) + 2))) if one not in known)


def describe(value: Any) -> str:
    """Describe what was given or returned instead of a model."""
    return "None" if value is None else f"an object of type {type(value).__name__}"


def format_shape(shape: Sequence[int | None]) -> str:
    """Format a shape without its batch axis as ``[B, 3]``."""
    return f"[{', '.join(['B', *('any' if side is None else str(side) for side in shape)])}]"


def format_outputs(shapes: Sequence[Sequence[int | None]]) -> str:
    """Format the shapes of outputs."""
    each = [f"[{', '.join('B' if side is None else str(side) for side in shape)}]" for shape in shapes]
    return f"{len(each)} outputs, {', '.join(each)}" if len(each) > 1 else f"an output of shape {each[0]}"
