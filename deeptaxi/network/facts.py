"""Plain numbers about a network, for those who may not know Keras; `network.inspect` collects them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerFacts:
    """What the units of a hidden layer do over a set of states.

    Attributes:
        name: of the layer.
        activation: its name, such as ``"relu"``.
        units: how many there are.
        dead: how many give 0 in every one of the states; 0 where the activation is not cut at 0.
        saturated: how many are within 1 % of the end of a bounded activation in 95 % of the states.
    """

    name: str
    activation: str
    units: int
    dead: int
    saturated: int


@dataclass(frozen=True)
class NetworkFacts:
    """What a network is made of and what its hidden units do.

    Attributes:
        state_input: how the state comes in: ``"one-hot"``, ``"embedding"``, ``"number"``, or ``"unknown"``.
        output_activation: of the Q values, ``"linear"`` where nothing bounds them.
        output_range: the lowest and the highest value that this activation can give, None where it has no end there.
        hidden: the hidden layers that have units with an activation, from the input on.
        states: the number of states that they were looked at over.
    """

    state_input: str
    output_activation: str
    output_range: tuple[float | None, float | None]
    hidden: tuple[LayerFacts, ...]
    states: int
