"""The layers of a Q-network on state numbers, for deeptaxi's own networks and for any Keras model.

    state = keras.Input((), dtype="int32")
    hidden = OneHotDense(64, states=500, activation="relu")(state)
    q_values = Dueling()([keras.layers.Dense(1)(hidden), keras.layers.Dense(6)(hidden)])
    model = keras.Model(state, q_values)

`OneHotDense` is a dense layer whose input is the one-hot vector e_s of a state. The product e_s W selects row s of W,
so it is computed as a gather: the same function, at a cost independent of the number of states.

**Factored.** If a state consists of parts p_1, …, p_F of sizes n_1, …, n_F (row-major, S = Π n_f; see `mdp.describe`),
the input can be the concatenated one-hot vectors of the parts. W then has Σ n_f rows, and the product is a sum of F of
them:

    x W = Σ_f W[n_1 + … + n_{f−1} + p_f]

So what is learned about a part in one state applies to all states that share it, including those never visited.
Taxi's 500 states are 5 · 5 · 5 · 4, and need 19 rows.

`Dueling` combines a state value V `[B, 1]` and advantages A `[B, N]` (Wang et al., Dueling Network Architectures for
Deep Reinforcement Learning, 2016, equations 7 to 9):

    none:  Q = V + A                  V and A are not determined by Q
    max:   Q = V + A − max_a A        V is the value of the best action
    mean:  Q = V + A − (1/N) Σ_a A    the usual choice: smoother

`ActionMask` sets the Q values of disallowed actions to −∞, so that every argmax downstream honors the mask.

They run on every backend, in functional, Sequential and subclassed models, and are registered with Keras: a `.keras`
file that holds them opens where this module has been imported. Importing it starts Keras as deeptaxi does, quietly and
on one thread, unless Keras has been imported already.

**Mixed precision.** Like Keras' own, the layers compute in the compute dtype of their policy. In float16, V + A is
rounded to 11 bits, which does not tell Q values apart that differ by less than a thousandth: give the last layer
``dtype="float32"``. deeptaxi itself trains in float32 only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from deeptaxi.backend import keras_backend
from deeptaxi.backend.shapes import is_alike
from deeptaxi.config import AGGREGATIONS

keras_backend.start()  # before Keras is imported, which would print, and take all threads

import keras  # noqa: E402
from keras import ops  # noqa: E402

__all__ = ["ActionMask", "Dueling", "OneHotDense"]
PACKAGE = "deeptaxi"


def check_sizes(**sizes: Any) -> None:
    """Raise a `ValueError` unless all sizes are positive integers."""
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected a whole number above 0, received {value!r}")


def check_factors(factors: Any, states: int) -> None:
    """Raise a `ValueError` unless the factors are positive integers whose product is S."""
    if factors is not None:
        check_sizes(**{f"factor {number}": size for number, size in enumerate(factors, start=1)})
        if math.prod(factors) != states:
            raise ValueError(f"factors: expected a product of {states}, received {list(factors)}")


def encode(states: Any, factors: Sequence[int] | None = None) -> Any:
    """Return the kernel rows selected by the states, int32 `[B, F]`; the sum of these rows is the product x W.

    Args:
        states: state numbers 0 … S−1, `[B]`; the caller must exclude others.
        factors: sizes n_1, …, n_F of the parts of a state, row-major; None for one-hot over all states, where F = 1.
    """
    states = ops.cast(states, "int32")
    if factors is None:
        return ops.expand_dims(states, -1)
    rows, stride, offset = [], math.prod(factors), 0
    for size in factors:
        stride //= size
        rows.append(offset + ops.mod(ops.floor_divide(states, stride), size))
        offset += size
    return ops.stack(rows, axis=-1)


def gather_rows(table: Any, states: Any, factors: Sequence[int] | None = None) -> Any:
    """Sum the rows selected by `encode`, `[B, N]`; without factors, ``table[states]``.

    A state outside 0 … S−1 gives a row of NaN on every backend, as does a float that is no whole number. By default,
    backends clamp, wrap around or raise; an invalid result must not look like a valid one.
    """
    count = table.shape[0] if factors is None else math.prod(factors)
    inside = ops.logical_and(states >= 0, states < count)
    if is_float(states):  # Keras builds a loaded subclassed model by calling it with floats
        inside = ops.logical_and(inside, ops.equal(states, ops.floor(states)))
        states = ops.cast(ops.where(inside, states, 0), "int32")
    clipped = ops.clip(states, 0, count - 1)
    if factors is None:
        rows = ops.take(table, clipped, axis=0)
    else:
        rows = ops.sum(ops.take(table, encode(clipped, factors), axis=0), axis=-2)
    return ops.where(ops.expand_dims(inside, -1), rows, float("nan"))


def input_shapes(inputs: Any) -> Any:
    """Return the shapes of nested inputs; None if one of them is not an array, which Keras refuses itself."""
    leaves = keras.tree.flatten(inputs)
    if not all(hasattr(leaf, "shape") for leaf in leaves):
        return None
    return keras.tree.map_structure(lambda leaf: tuple(leaf.shape), inputs)


def is_shape(shape: Any) -> bool:
    """Return whether `shape` is the shape of one array."""
    return isinstance(shape, list | tuple) and all(side is None or isinstance(side, int) for side in shape)


def check_two(shapes: Any, names: str) -> None:
    """Raise a `ValueError` unless `shapes` are those of two arrays."""
    if not isinstance(shapes, list | tuple) or len(shapes) != 2 or not all(is_shape(shape) for shape in shapes):
        raise ValueError(f"expected the shapes of {names}, received {shapes}")


def is_float(states: Any) -> bool:
    """Return whether an array holds floats."""
    return "float" in keras.backend.standardize_dtype(states.dtype)


def check_states(layer: keras.layers.Layer, name: str, states: Any) -> None:
    """Raise a `ValueError` if a layer would round state numbers: in float16, 2049 is 2048."""
    if isinstance(states, keras.KerasTensor) or not hasattr(states, "dtype") or not is_float(states):
        return
    received = keras.backend.standardize_dtype(states.dtype)
    for dtype in (received, layer.compute_dtype):  # to which Keras casts the floats that a layer is called with
        if "16" in dtype:
            raise ValueError(f'{name}: {dtype} would round state numbers; give their keras.Input dtype="int32"')


def join(value: Any, advantage: Any, aggregation: str, axis: int = -1) -> Any:
    """Return the Q values V + A − aggregate(A), `[B, N]`, of a dueling head, for V `[B, 1]` and A `[B, N]`.

    `axis` is the axis of the N actions.
    """
    if aggregation == "mean":
        # Not ops.mean, which computes float64 in float32 on some backends; and not a division, which graph
        # compilers turn into this product: an export would differ from the model in the last bit.
        return value + advantage - ops.sum(advantage, axis=axis, keepdims=True) * (1.0 / advantage.shape[axis])
    if aggregation == "max":
        return value + advantage - ops.max(advantage, axis=axis, keepdims=True)
    return value + advantage


@keras.saving.register_keras_serializable(package=PACKAGE)
class OneHotDense(keras.layers.Layer):
    """A dense layer on the one-hot encoding of a state number, or of its parts.

    Args:
        units: size of the output.
        states: S, the number of states.
        activation: activation, as for `keras.layers.Dense`.
        use_bias: whether to add a bias.
        kernel_initializer: initializer of the kernel `[S, units]`.
        bias_initializer: initializer of the bias `[units]`.
        factors: sizes of the parts of a state, row-major, to encode each separately; the kernel is then
            `[Σ n_f, units]`. None encodes the state as a whole.
        **kwargs: standard Keras layer arguments.

    Call arguments:
        inputs: state numbers, `[B]`, best as integers.

    Returns:
        `[B, units]`; NaN for a state outside 0 … S−1.

    Raises:
        ValueError: a size is not a positive integer, the product of the factors is not S, or the inputs are floats of
            16 bits, which do not tell states apart.

    Example:
        >>> table = OneHotDense(2, states=3, use_bias=False)
        >>> table.build((None,))
        >>> table.set_weights([np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])])
        >>> ops.convert_to_numpy(table(np.array([2, 0]))).tolist()
        [[4.0, 5.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        units: int,
        states: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        factors: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_sizes(units=units, states=states)
        check_factors(factors, states)
        self.units = units
        self.states = states
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.factors = None if factors is None else tuple(factors)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Check the inputs, then call the layer: Keras adds lines to what is raised within."""
        check_states(self, "inputs", inputs)
        return super().__call__(inputs, *args, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Create the kernel, `[S, units]` or with factors `[Σ n_f, units]`, and the bias `[units]`."""
        del input_shape
        rows = self.states if self.factors is None else sum(self.factors)
        self.kernel = self.add_weight(name="kernel", shape=(rows, self.units), initializer=self.kernel_initializer)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer=self.bias_initializer)
        self.built = True

    @property
    def is_table(self) -> bool:
        """Whether its outputs for all states are its kernel."""
        linear = self.activation is keras.activations.linear
        return linear and self.bias is None and self.factors is None

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the activated kernel row, or sum of rows, `[B, units]`."""
        # Multiplying by 1 makes TensorFlow's gradient dense. In a sparse gradient, Keras' optimizers would square or
        # clip the rows of a repeated state separately, instead of their sum. XLA removes the multiplication.
        x = gather_rows(self.kernel * 1.0 if training else self.kernel, inputs, self.factors)
        if self.bias is not None:
            x = x + self.bias
        return self.activation(x)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """Return the input shape with `units` appended."""
        return (*input_shape, self.units)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return a floating-point spec, although the inputs are integers."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "states": self.states,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "factors": None if self.factors is None else list(self.factors),
        }


@keras.saving.register_keras_serializable(package=PACKAGE)
class Dueling(keras.layers.Layer):
    """Combine a value stream and an advantage stream into Q values.

    Args:
        aggregation: what to subtract from the advantages: their ``"mean"``, their ``"max"``, or ``"none"``.
        **kwargs: standard Keras layer arguments.

    Call arguments:
        inputs: the list ``[value, advantage]`` of shapes `[B, 1]` and `[B, N]`.

    Returns:
        Q values `[B, N]`. The mean or maximum is over the actions of each state, never over the batch.

    Raises:
        ValueError: the aggregation is unknown, or the inputs are not two arrays of these shapes.

    Example:
        V is 4 and A = (0, 1, 5), whose mean is 2.

        >>> value, advantage = np.array([[4.0]]), np.array([[0.0, 1.0, 5.0]])
        >>> ops.convert_to_numpy(Dueling()([value, advantage])).tolist()
        [[2.0, 3.0, 7.0]]
    """

    def __init__(self, aggregation: str = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation: expected one of {', '.join(AGGREGATIONS)}, received {aggregation!r}")
        self.aggregation = aggregation

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Check the inputs, then call the layer: Keras adds lines to what is raised within."""
        if args:
            raise ValueError(f"expected one list [value, advantage], received {1 + len(args)} arguments")
        if (shapes := input_shapes(inputs)) is not None:
            self.check(shapes)
        return super().__call__(inputs, **kwargs)

    def check(self, shapes: Any) -> None:
        """Raise a `ValueError` unless `shapes` are `[B, 1]` and `[B, N]`.

        Backends would broadcast an advantage `[B]` to `[B, B]`, the advantages of all states to each.
        """
        check_two(shapes, "[value, advantage]")
        value, advantage = map(tuple, shapes)
        if value[-1:] != (1,):
            raise ValueError(f"value: expected a last dimension of 1, received {value}")
        if advantage[-1:] in ((), (None,)) or not is_alike(advantage[:-1], value[:-1]):
            expected = ", ".join([*map(str, value[:-1]), "N"])
            raise ValueError(f"advantage: expected ({expected}) beside a value {value}, received {advantage}")

    def build(self, input_shape: Any) -> None:
        """Validate the shapes of the two streams; there are no weights."""
        self.check(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return V + A − aggregate(A), `[B, N]`."""
        value, advantage = inputs
        return join(value, advantage, self.aggregation)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the advantages."""
        return tuple(input_shape[1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "aggregation": self.aggregation}


@keras.saving.register_keras_serializable(package=PACKAGE)
class ActionMask(keras.layers.Layer):
    """Set the Q values of disallowed actions to −∞.

    The mask is a non-trainable weight, so it is saved with the model and remains part of the policy.

    Args:
        states: S, the number of states.
        actions: N, the number of actions.
        **kwargs: standard Keras layer arguments.

    Call arguments:
        inputs: the list ``[states, q_values]`` of shapes `[B]` and `[B, N]`.

    Returns:
        Q values `[B, N]`.

    Raises:
        ValueError: a size is not a positive integer, or the inputs are not two arrays of these shapes.

    Example:
        Action 1 is not allowed in state 0.

        >>> layer = ActionMask(states=2, actions=2)
        >>> layer.build([(None,), (None, 2)])
        >>> layer.set_weights([np.array([[1.0, 0.0], [1.0, 1.0]])])
        >>> ops.convert_to_numpy(layer([np.array([0, 1]), np.array([[3.0, 9.0], [3.0, 9.0]])])).tolist()
        [[3.0, -inf], [3.0, 9.0]]
    """

    def __init__(self, states: int, actions: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_sizes(states=states, actions=actions)
        self.states = states
        self.actions = actions

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Check the inputs, then call the layer: Keras adds lines to what is raised within."""
        if args:
            raise ValueError(f"expected one list [states, q_values], received {1 + len(args)} arguments")
        if (shapes := input_shapes(inputs)) is not None:
            self.check(shapes)
            check_states(self, "states", inputs[0])
        return super().__call__(inputs, **kwargs)

    def check(self, shapes: Any) -> None:
        """Raise a `ValueError` unless `shapes` are `[B]` and `[B, N]`."""
        check_two(shapes, "[states, q_values]")
        states, q_values = map(tuple, shapes)
        if not is_alike(q_values, (*states, self.actions)):
            expected = ", ".join(map(str, (*states, self.actions)))
            raise ValueError(f"q_values: expected ({expected}) beside states {states}, received {q_values}")

    def build(self, input_shape: Any) -> None:
        """Create the mask `[S, N]`, 1 where an action is allowed; initially all are."""
        self.check(input_shape)
        self.mask = self.add_weight(name="mask", shape=(self.states, self.actions), initializer="ones", trainable=False)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the Q values, −∞ where the mask is 0."""
        states, q_values = inputs
        return ops.where(gather_rows(self.mask, states) == 0, float("-inf"), q_values)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the Q values."""
        return tuple(input_shape[1])

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return a floating-point spec, although the first input is integers."""
        return keras.KerasTensor(inputs[1].shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "states": self.states, "actions": self.actions}
