"""Read a model of any kind for an environment: the one place that knows them all.

    .keras, .h5               a network, deeptaxi's own or of Keras' layers
    .npy, .npz, .csv, .json   a Q table or a policy
    SavedModel, .onnx         whatever their runtime computes, as a Q table

What is read never runs code of the file's (`keras_file`, `served`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from deeptaxi.errors import UsageError
from deeptaxi.mdp.environment import Environment
from deeptaxi.storage.models import ModelSource, check_fits


class Loaded(NamedTuple):
    """A model: one of the two is None.

    Attributes:
        network: a Keras model.
        array: Q values, float `[S, A]`, or a policy, int64 `[S]`.
    """

    network: Any
    array: NDArray[Any] | None


def read_model(source: ModelSource, environment: Environment, fitting: bool = True) -> Loaded:
    """Read a model that was found.

    Args:
        source: where it is.
        environment: the environment that it is for.
        fitting: whether to verify that a network fits it; arrays are always verified.

    Raises:
        UsageError: it does not fit the environment, or its runtime is not installed.
        DeepTaxiError: it is damaged, or asks for code.
    """
    if source.kind == "array":
        from deeptaxi.storage.arrays import read_decisions

        return Loaded(None, read_decisions(source.path, environment))
    if source.kind == "served":
        from deeptaxi.storage.served import read_served

        values = read_served(source.path, environment)
        values.setflags(write=False)
        return Loaded(None, values)
    network = source.load_network(environment.states)
    if fitting:
        check_network(network, environment, source.name)
    return Loaded(network, None)


def check_network(network: Any, environment: Environment, name: str) -> None:
    """Reject a network, deeptaxi's or of Keras' own layers, that does not fit the environment.

    Raises:
        UsageError: its numbers of states or actions differ from the environment's.
    """
    from deeptaxi.network.encodings import parts_of
    from deeptaxi.network.inspect import check_foreign, is_ours

    if is_ours(network):
        check_fits(network, environment, name)
        return
    try:
        check_foreign(network, environment.states, environment.actions, parts_of(environment))
    except ValueError as error:
        raise UsageError(f"cannot inspect {name}: it has {error}") from None
