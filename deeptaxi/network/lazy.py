"""Networks that are built on demand, or reused: building a Keras model takes longer than training some agents.

A trained network is kept as its weights, and its model is built when it is first asked for: most agents of a group are
never asked for theirs. A training does need a model; it borrows one, which is reinitialized for the next training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deeptaxi.network.build import QNetworkSpec, digest_of_weights, with_mask

ARCHITECTURES = 8  # of which idle networks are kept
IDLE = 64  # of each architecture: as many trainings may run together
LARGEST = 2**20  # weights: larger networks are not kept
_idle: dict[QNetworkSpec, list[keras.Model]] = {}


def borrow_network(spec: QNetworkSpec, weights: Sequence[NDArray[Any]] | None = None) -> keras.Model:
    """Return what `spec.build` returns: an idle network of its architecture, reinitialized, or a new one.

    Give it back with `return_network` once nothing else refers to it.

    Args:
        spec: what builds it.
        weights: as `Model.get_weights` returns them, in place of the initial ones.
    """
    try:
        network = _idle[spec.architecture].pop()
    except LookupError:
        network = spec.build()
        if weights is not None:
            network.set_weights(weights)
    else:
        spec.initialize(network, weights)
    return network


def return_network(spec: QNetworkSpec, network: keras.Model) -> None:
    """Keep a network from `borrow_network` for the next training of its architecture."""
    idle = _idle.pop(spec.architecture, [])
    if network.count_params() <= LARGEST and len(idle) < IDLE:
        idle.append(network)
    _idle[spec.architecture] = idle
    while len(_idle) > ARCHITECTURES:
        _idle.pop(next(iter(_idle)), None)  # another thread may have dropped it meanwhile


@contextmanager
def borrowed_network(spec: QNetworkSpec, weights: Sequence[NDArray[Any]]) -> Iterator[keras.Model]:
    """Borrow a network with these weights for the duration of the block."""
    network = borrow_network(spec, weights)
    yield network
    return_network(spec, network)


class LazyNetwork:
    """A network whose Keras model is built when it is first asked for.

    Args:
        spec: what builds it.
        weights: its weights, as `Model.get_weights` returns them.
        mask: the allowed actions, bool `[S, A]`, of the mask on top of it; None without one.
    """

    def __init__(
        self, spec: QNetworkSpec, weights: Sequence[NDArray[Any]], mask: NDArray[np.bool_] | None = None
    ) -> None:
        self._unbuilt: tuple[QNetworkSpec, Sequence[NDArray[Any]], NDArray[np.bool_] | None] | None
        self._unbuilt = spec, weights, mask
        self._model: keras.Model = None

    @classmethod
    def of(cls, model: keras.Model) -> LazyNetwork:
        """Return the network of a model that is built already."""
        network = cls.__new__(cls)
        network._unbuilt, network._model = None, model
        return network

    @property
    def model(self) -> keras.Model:
        """The Keras model, always the same object."""
        if self._unbuilt is not None:
            spec, weights, mask = self._unbuilt
            model = spec.build()
            model.set_weights(weights)
            self._model, self._unbuilt = model if mask is None else with_mask(model, mask), None
        return self._model

    def get_weights(self) -> list[NDArray[Any]]:
        """Return the weights of the model, as its `get_weights` does."""
        if self._unbuilt is None:
            return list(self._model.get_weights())
        _, weights, mask = self._unbuilt
        return [*weights, *([] if mask is None else [mask.astype(np.float32)])]

    @property
    def weights_digest(self) -> str:
        """The digest of the weights; see `build.weights_digest`."""
        return digest_of_weights(self.get_weights())

    def save(self, path: Any) -> None:
        """Save the model, as its `save` does."""
        if self._unbuilt is None or self._unbuilt[2] is not None:
            self.model.save(path)
        else:
            with borrowed_network(*self._unbuilt[:2]) as network:
                network.save(path)
