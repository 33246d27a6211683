"""Plain facts about a network, for code that does not import Keras; `network.inspect` collects them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerFacts:
    """The behavior of a hidden layer's units over a set of states.

    Attributes:
        name: name of the layer.
        activation: its activation, such as ``"relu"``.
        units: number of units.
        dead: number of units that output 0 in every state; 0 unless the activation is cut off at 0.
        saturated: number of units within 1 % of either end of a bounded activation in 95 % of the states.
    """

    name: str
    activation: str
    units: int
    dead: int
    saturated: int


@dataclass(frozen=True)
class NetworkFacts:
    """The structure of a network and the behavior of its hidden units.

    Attributes:
        state_input: how the state is encoded: ``"one-hot"``, ``"embedding"``, ``"number"``, or ``"unknown"``.
        output_activation: of the Q values; ``"linear"`` if unbounded.
        output_range: lowest and highest output of this activation, None if unbounded.
        hidden: the hidden layers with a nonlinear activation, from input to output.
        states: number of states that the units were observed in.
        biases_at_zero: whether it has biases, and each of them is exactly 0, as layers are made.
        as_initialized: whether its weights are as their initializers draw them; None if that is unknown.
    """

    state_input: str
    output_activation: str
    output_range: tuple[float | None, float | None]
    hidden: tuple[LayerFacts, ...]
    states: int
    biases_at_zero: bool = False
    as_initialized: bool | None = None


@dataclass(frozen=True)
class TrainingMode:
    """How the answers of a network vary that computes as in training while it acts, as ``model(x)``.

    Attributes:
        layers: the layers that are called with ``training=True``, by name and class; empty if they cannot be seen.
        again: the largest difference between the Q values of two equal calls, which chance makes.
        alone: the largest difference between the Q values of a state alone and in a batch.
        changing: of the states that were looked at, those whose greedy action differs by that.
        states: number of states that were looked at.
        avoidable: whether ``model(x, training=False)`` is a function of the state.
    """

    layers: tuple[str, ...]
    again: float
    alone: float
    changing: int
    states: int
    avoidable: bool
