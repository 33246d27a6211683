"""Small networks of each kind, with large random weights, and what they are written from."""

from __future__ import annotations

import keras
import numpy as np

from deeptaxi.exports.exporter import source_of
from deeptaxi.exports.writers import Source
from deeptaxi.network.build import build_q_network, with_mask

S, A = 24, 3
MASK = np.arange(S * A).reshape(S, A) % 4 != 0
KINDS = {
    "q-table": {},
    "dueling": {"hidden": (8,), "dueling": True},
    "factored": {"hidden": (8,), "dueling": True, "factors": (2, 3, 4)},
    "gelu": {"hidden": (16, 16), "activation": "gelu"},
    "silu": {"hidden": (8,), "activation": "silu"},
    "max": {"hidden": (8,), "dueling": True, "aggregation": "max"},
}


def shaken(kind: str, masked: bool = True) -> keras.Model:
    network = build_q_network(S, A, seed=1, **KINDS[kind])
    rng = np.random.default_rng(2)
    network.set_weights([rng.normal(0, 3, weight.shape).astype("float32") for weight in network.get_weights()])
    return with_mask(network, MASK) if masked else network


def source(kind: str, masked: bool = True) -> Source:
    return source_of(shaken(kind, masked), None)
