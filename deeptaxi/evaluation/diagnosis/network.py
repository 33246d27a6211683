"""What the network is made of, and what its hidden units do over the states that an agent can come to."""

from __future__ import annotations

import numpy as np

from deeptaxi.evaluation.diagnosis.case import Case, the
from deeptaxi.evaluation.diagnosis.check import Check
from deeptaxi.evaluation.diagnosis.findings import Finding
from deeptaxi.evaluation.diagnosis.steps import lower_rate
from deeptaxi.network.facts import LayerFacts

DEAD = 0.25  # share of a layer's units
MOSTLY_DEAD = 0.5
SATURATED = 0.5


def dead_relu_units(case: Case) -> Finding | None:
    """Name hidden layers whose units are off in every state."""
    layers = [layer for layer in the(case.network).hidden if layer.dead >= DEAD * layer.units]
    if not layers:
        return None
    worst = max(layers, key=lambda layer: layer.dead / layer.units)
    severe = worst.dead >= MOSTLY_DEAD * worst.units
    return Finding(
        "dead-relu-units",
        case.worst if severe else "note" if case.harmful is False else "warning",
        f"{worst.dead} of {worst.units} {worst.activation} units of layer {worst.name} give 0 in every state",
        {"layers": [described(layer, layer.dead) for layer in layers], "states": the(case.network).states},
        "network",
        "steps that were too long have pushed the units below zero everywhere, where their gradient is zero for good",
        f"{lower_rate(case.config)}, or --activation elu",
    )


def described(layer: LayerFacts, count: int) -> dict[str, object]:
    """Return one layer for the evidence."""
    return {"layer": layer.name, "activation": layer.activation, "units": layer.units, "count": count}


def saturated_output(case: Case) -> Finding | None:
    """Name an output that cannot give the Q values it should, and hidden units that stand at their end."""
    facts = the(case.network)
    low, high = facts.output_range
    if low is not None or high is not None:
        return bounded_output(case, facts.output_activation, low, high)
    layers = [layer for layer in facts.hidden if layer.saturated >= SATURATED * layer.units]
    if not layers:
        return None
    worst = max(layers, key=lambda layer: layer.saturated / layer.units)
    return Finding(
        "saturated-output",
        case.worst,
        f"{worst.saturated} of {worst.units} {worst.activation} units of layer {worst.name} stand at the end of their "
        "range in nearly every state",
        {"layers": [described(layer, layer.saturated) for layer in layers], "states": facts.states},
        "network",
        "units at the end of their range give the same in all states and have no gradient: steps were too long, or Q "
        "values too large for the weights",
        "--activation relu with a lower --learning-rate, or a larger --reward-scale",
    )


def bounded_output(case: Case, activation: str, low: float | None, high: float | None) -> Finding | None:
    """Name an activation of the output that bounds Q; with a table, how much of Q* lies outside."""
    bounds = (-np.inf if low is None else low, np.inf if high is None else high)
    evidence: dict[str, object] = {"activation": activation, "lowest": low, "highest": high}
    summary, source, severity = f"the output goes through {activation}, which bounds the Q values", "network", "warning"
    if case.reference is not None:
        truth = (case.reference.optimum.q if case.reference.q_star is None else case.q_star)[case.pairs]
        outside = float(((truth < bounds[0]) | (truth > bounds[1])).mean())
        if outside == 0:
            return None
        evidence |= {"share_outside": outside, "q_star": [float(truth.min()), float(truth.max())]}
        summary += f"; {outside:.0%} of Q* lies outside, between {truth.min():.3g} and {truth.max():.3g}"
        source, severity = "exact", case.worst
    return Finding(
        "saturated-output",
        severity,  # type: ignore[arg-type]  # one of the three
        summary,
        evidence,
        source,  # type: ignore[arg-type]
        "Q values are sums of rewards, not probabilities: the output must be linear",
        "keras.layers.Dense(actions), without activation; `deeptaxi train` builds such a network",
    )


def state_as_number(case: Case) -> Finding | None:
    """Name a network that takes the state number as a quantity."""
    if the(case.network).state_input != "number":
        return None
    return Finding(
        "state-as-number",
        case.worst,
        "the network takes the number of the state as one input, as if state 200 were twice state 100",
        {"input": "number", "states": case.states},
        "network",
        "state numbers are names, not quantities; over one number a small network can only draw a few kinks",
        "one-hot: keras.layers.CategoryEncoding(num_tokens=states, output_mode='one_hot') before the first Dense; "
        "`deeptaxi train` does so",
    )


CHECKS = (
    Check("state-as-number", ("network",), state_as_number),
    Check("saturated-output", ("network",), saturated_output),
    Check("dead-relu-units", ("network",), dead_relu_units),
)
