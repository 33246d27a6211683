"""Check the setup, independent of any update: is it the right problem, and can the network represent the values?

**Discount.** Of the policies that are optimal at the training discount, the one that is best by the objective is
computed exactly: value iteration over the actions that are optimal for the training. If even that policy is bad, no
training at this discount can be good. A network cannot distinguish actions that differ by less than `RESOLUTION` of the
largest Q value, so the policy that chooses at random among these is checked as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from deeptaxi.config import OWN_KIND
from deeptaxi.diagnosis import rivals
from deeptaxi.diagnosis.case import GOOD, Case, Check, Finding, Severity, Unchecked, the
from deeptaxi.diagnosis.learning_curves import lower_rate
from deeptaxi.evaluation import exact
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Bools, Floats, TransitionTable
from deeptaxi.mdp.total_reward import UndefinedError
from deeptaxi.network.facts import LayerFacts

RESOLUTION = 1e-4
TIES = 1e-9
MASKED_OUT = 0.1  # normalized score of the best policy under a mask that is part of the problem
LOST = 0.5  # of the larger of the values with and without such a mask
CONTRADICTED = ("its P ", "an episode started in", "its transition table P is not valid")
ARRIVED = 0.1  # distance to the right values of some discount over their scatter


@dataclass(frozen=True)
class Promise:
    """The best that a training can achieve: normalized scores of policies that are optimal at its discount."""

    score: float  # of the best policy that is optimal at the training discount
    blurred: float  # of the one that chooses at random among actions that a network cannot distinguish


def promise(table: TransitionTable, objective: float, discount: float, mask: Bools | None = None) -> Promise | None:
    """Evaluate the policies that are optimal at `discount` at the discount of the `objective`.

    `mask` `[S, A]` replaces the table's. None if there is no score: the random policy is as good as the optimum, or a
    value is infinite.
    """
    mask = table.action_mask if mask is None else mask
    q = planning.value_iteration(table, discount, mask).q
    ties = planning.optimal_actions(q, TIES)
    coarse = RESOLUTION * float(np.abs(q[np.isfinite(q)]).max())
    alike = q >= q.max(axis=1, keepdims=True) - coarse
    best_of_ties = values_within(table, objective, ties)
    if best_of_ties is None:
        return None
    values = (
        best_of_ties,
        planning.evaluate_policy(table, planning.uniform_policy(table, alike), objective).value,
        planning.value_iteration(table, objective, table.action_mask).value,
        planning.evaluate_uniform(table, objective, table.action_mask).value,
    )
    best, blurred, optimum, random = (exact.mean(table, value) for value in values)
    scores = [exact.normalize_score(value, optimum, random) for value in (best, blurred)]
    return None if scores[0] is None or scores[1] is None else Promise(scores[0], scores[1])


def values_within(table: TransitionTable, discount: float, choices: Bools) -> Floats | None:
    """Return the best values that `choices` `[S, A]` allow, `[S]`; None if undefined at a discount of 1."""
    try:
        return planning.value_iteration(table, discount, choices).value
    except UndefinedError:
        return None


def all_policies_equal(case: Case) -> Finding | None:
    """Detect a problem in which every policy has the same value."""
    why = the(case.verdict).all_policies_equal
    if why is None:
        return None
    return Finding(
        "all-policies-equal",
        "severe",
        why,
        {"optimal_value": the(case.verdict).optimal_value},
        "exact",
        "the problem has nothing to learn, or its rewards come where nothing follows, such as a step after the goal",
        "change the environment or the table, then train again",
    )


def mask_forbids_optimum(case: Case) -> Finding | None:
    """Detect a mask under which the best policy is far worse than without it."""
    table, mask = the(case.table), case.allowed
    if mask.all() or case.discount == 1:
        return None
    free = replace(table, action_mask=None)
    unknown = ~mask & (free.terminated | (free.probability == 0)).all(axis=2) & (free.expected_reward == 0)
    known = ~unknown  # an excluded pair needs no outcome of its own, and then has the end for 0
    masked = exact.mean(table, planning.value_iteration(free, case.discount, mask).value)
    best = exact.mean(table, planning.value_iteration(free, case.discount, known).value)
    random = exact.mean(table, planning.evaluate_uniform(free, case.discount, known).value)
    score = exact.normalize_score(masked, best, random)
    own = table.action_mask is not None and np.array_equal(mask, table.action_mask)
    lost = (best - masked) / max(abs(best), abs(masked), 1e-12)
    if score is None or (lost < LOST and score >= MASKED_OUT if own else score >= GOOD):
        return None
    nothing_left = case.verdict is not None and case.verdict.all_policies_equal is not None
    return Finding(
        "mask-forbids-optimum",
        "severe" if nothing_left or not own else "warning",
        f"under its action mask the best policy is worth {masked:.4g}, and without the mask {best:.4g}",
        {"value_under_mask": masked, "value_without": best, "score": score, "of_the_problem": own},
        "exact",
        "the mask excludes actions that the best policy needs, such as all that lead to the goal",
        "mark with True what may be done, not what may not; and look at the mask where the best path runs",
    )


def goal_unreachable(case: Case) -> Finding | None:
    """Detect rewards that are only where no episode gets."""
    table, reached = the(case.table), case.reached
    paid = (table.probability > 0) & (table.reward != 0)
    here = bool((paid & case.allowed[:, :, None])[reached].any())
    if here or not paid.any() or the(case.verdict).all_policies_equal is None:
        return None
    best = np.unravel_index(int(np.argmax(np.where(paid, table.reward, -np.inf))), paid.shape)
    state, action = int(best[0]), int(best[1])
    return Finding(
        "goal-unreachable",
        "severe",
        f"all rewards are where no episode gets: the largest, {table.reward[best]:g}, is for {case.action(action)} in "
        f"state {state}, which no start leads to",
        {"state": state, "action": action, "reward": float(table.reward[best]), "reached": int(reached.sum())},
        "exact",
        "walls, the start, or the numbers of states keep every policy from the goal",
        "look at the way from a start to that state, and at where episodes start",
    )


def reward_after_end(case: Case) -> Finding | None:
    """Detect a state that nothing leaves, which pays at every step where others end the episode."""
    table = the(case.table)
    possible = table.probability > 0
    if not (table.terminated & possible).any() and not is_goal_of_all(case):
        return None
    stays = (~possible | ((table.next_state == np.arange(case.states)[:, None, None]) & ~table.terminated)).all(axis=2)
    pays = (stays | ~case.allowed).all(axis=1) & (table.expected_reward.min(axis=1) > 0) & case.reached
    if not pays.any() or table.expected_reward[pays].max() < table.reward[possible].max():
        return None
    state = int(np.flatnonzero(pays)[0])
    return Finding(
        "reward-after-end",
        case.worst,
        f"state {state} is never left and pays {table.expected_reward[state].max():g} again at every step: it looks "
        "like a goal that does not end the episode",
        {"state": state, "states": int(pays.sum()), "reward": float(table.expected_reward[state].max())},
        "exact",
        "the step that reaches the goal is not marked as terminated, so its reward is earned again for ever",
        "terminated=True where the goal is reached, or no reward for staying there",
    )


def is_goal_of_all(case: Case) -> bool:
    """Whether a reward is only paid in, or on the way into, states that nothing leaves."""
    table = the(case.table)
    possible = table.probability > 0
    stays = (~possible | (table.next_state == np.arange(case.states)[:, None, None])).all(axis=(1, 2))
    return bool((~possible | (table.reward <= 0) | stays[table.next_state]).all())


def table_contradicted(case: Case) -> Finding | Unchecked | None:
    """Detect an environment whose own P does not say what its steps do."""
    why = case.why.get("table", "")
    if case.table is not None or not why.startswith(CONTRADICTED):
        return None
    return Finding(
        "table-contradicted",
        "warning",
        f"the environment has a table that is not used: {why}",
        {"contradiction": why},
        "episodes",
        "P was changed, or step was, without the other: a verdict from it would be exact and wrong",
        "make P and step agree, or leave P out",
    )


def optimality_unknown(case: Case) -> Finding | None:
    """Detect a discount at which good and bad policies have numerically equal values."""
    why = the(case.verdict).optimal_unknown
    if why is None:
        return None
    larger = why["telling_discount"]
    cure = (
        f"--discount {min(larger, 0.9999):g} --objective-discount {larger:g}"
        if larger
        else "larger rewards, or fewer steps"
    )
    return Finding(
        "optimality-unknown",
        "warning",
        f"at discount {case.discount:g} it cannot be determined whether the policy is optimal: {why['reason']}",
        {"start_states": why["start_states"], "discount": case.discount, "telling_discount": larger},
        "exact",
        "rewards are so many steps away that discounting leaves almost nothing of them",
        cure,
    )


def nearest_discount(case: Case) -> float | None:
    """Return the discount whose Q* a model of unknown training is nearest to, if it has settled there."""
    found = rivals.compare_rivals(case)
    if found is None or found.nearest is not None:
        return None
    right = found.right
    return right.discount if found.on_its_way is None and right.distance < ARRIVED * rivals.scatter(right.q) else None


def discount_too_small(case: Case) -> Finding | Unchecked | None:
    """Detect a discount at which no training can find a good policy."""
    discount = case.training_discount
    if discount is None:
        discount = nearest_discount(case)
    if discount is None:
        return Unchecked(case.missing("discount"))
    if discount >= case.discount:
        return None
    found = promise(the(case.table), case.discount, discount, case.allowed)
    if found is None or min(found.score, found.blurred) >= GOOD:
        return None
    return finding(found, discount, case)


def cost(found: Promise, discount: float, objective: float) -> str:
    """Describe the cost of the discount."""
    if found.score < GOOD:
        return f"the policy that is optimal at discount {discount:g} scores {found.score:.3g} at {objective:g}"
    return (
        f"at discount {discount:g} the values of good and bad actions differ by less than {RESOLUTION:g} of the "
        f"largest Q value; a policy that cannot tell these apart scores {found.blurred:.3g} at {objective:g}"
    )


def finding(found: Promise, discount: float, case: Case) -> Finding:
    """Create the finding, with the cost of the discount."""
    ahead = round(1 / max(1 - discount, 1e-9))
    return Finding(
        "discount-too-small",
        case.worst,
        cost(found, discount, case.discount),
        {"discount": discount, "objective_discount": case.discount, "score": found.score,
         "score_at_resolution": found.blurred, "resolution": RESOLUTION},
        "exact",
        "rewards that are many steps away count for nothing at this discount, "
        f"which looks about {ahead} step{'s' if ahead > 1 else ''} ahead",
        farther(discount, case),
    )  # fmt: skip


def farther(discount: float, case: Case) -> str:
    """Return the option for a larger discount: the usual one, or the objective's."""
    usual = case.usual.discount if case.usual is not None else 0.0
    return f"--discount {usual if discount < usual <= case.discount else case.discount:g}"


BROKEN_CHECKS = (
    Check("table-contradicted", (), table_contradicted),
    Check("mask-forbids-optimum", ("table",), mask_forbids_optimum),
    Check("goal-unreachable", ("table", "verdict"), goal_unreachable),
    Check("reward-after-end", ("table",), reward_after_end),
)
PROBLEM_CHECKS = (
    Check("all-policies-equal", ("verdict",), all_policies_equal),
    Check("optimality-unknown", ("verdict",), optimality_unknown),
    Check("discount-too-small", ("table",), discount_too_small),
)


DEAD = 0.25  # fraction of a layer's units
MOSTLY_DEAD = 0.5
SATURATED = 0.5
SMALL = 0.3  # mean |Q| over that of Q*
ALIKE = 0.2  # intraclass correlation
ENOUGH_STATES = 10


def dead_relu_units(case: Case) -> Finding | None:
    """Find hidden layers with units that are off in every state."""
    layers = [layer for layer in the(case.network).hidden if layer.dead >= DEAD * layer.units]
    if not layers:
        return None
    worst = max(layers, key=lambda layer: layer.dead / layer.units)
    severe = worst.dead >= MOSTLY_DEAD * worst.units
    return Finding(
        "dead-relu-units",
        case.worst if severe else "note" if case.harmful is False else "warning",
        f"{worst.dead} of {worst.units} {worst.activation} units of layer {worst.name} output 0 in every state",
        {"layers": [describe_layer(layer, layer.dead) for layer in layers], "states": the(case.network).states},
        "network",
        "updates that were too large pushed the units below zero everywhere, where their gradient stays zero",
        lower_rate(case.config, usual=case.usual),
    )


def describe_layer(layer: LayerFacts, count: int) -> dict[str, object]:
    """Describe a layer for the evidence."""
    return {"layer": layer.name, "activation": layer.activation, "units": layer.units, "count": count}


def saturated_output(case: Case) -> Finding | None:
    """Detect an output that cannot represent the required Q values, and saturated hidden units."""
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
        f"{worst.saturated} of {worst.units} {worst.activation} units of layer {worst.name} are saturated in "
        "nearly every state",
        {"layers": [describe_layer(layer, layer.saturated) for layer in layers], "states": facts.states},
        "network",
        "saturated units output the same in all states and have no gradient: updates were too large, or Q values too "
        "large for the weights",
        f"{with_activation(case, 'relu')} {lower_rate(case.config, usual=case.usual)}",
    )


def bounded_output(case: Case, activation: str, low: float | None, high: float | None) -> Finding | None:
    """Detect an output activation that bounds Q; with a table, compute how much of Q* lies outside."""
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


def with_activation(case: Case, name: str) -> str:
    """Say how the hidden layers of the network get another activation."""
    own = case.config is not None and case.config.network.kind == OWN_KIND
    return f"activation='{name}' in these layers" if own else f"--activation {name}"


def model_not_trained(case: Case) -> Finding | Unchecked | None:
    """Detect a model from elsewhere whose weights, or values, are as they were before any update.

    Without a verdict, only weights that are all as their initializers draw them say so.
    """
    if case.config is not None or case.harmful is False:
        return None
    facts = case.network
    zero, drawn = facts is not None and facts.biases_at_zero, facts is not None and bool(facts.as_initialized)
    if case.harmful is None and not drawn:
        return Unchecked(case.missing("verdict")) if case.verdict is None else None
    begins, common = False, math.nan
    if case.harmful and case.q is not None:
        begins, common = values_as_they_begin(case)
    elif not drawn:
        return Unchecked(case.missing("q"))
    if not (zero or drawn or (begins and (facts is None or facts.as_initialized is None))):
        return None
    certain: Severity = "severe" if zero and drawn else "warning"
    return Finding(
        "model-not-trained",
        case.worst if case.harmful else certain,
        "every bias of its layers is exactly 0, as it was made"
        if zero
        else "all of its weights are as their initializers draw them"
        if drawn
        else "its values are small, and those of a state have no more in common than any others: so they begin",
        {"biases_at_zero": zero, "as_initialized": drawn, "in_common": None if math.isnan(common) else common},
        "network" if zero or drawn else "exact",
        "the model was not trained, or hardly, or other weights were saved than were trained, such as those of a clone",
        "save the network that was fitted, after its training, and load its weights into a model of the same layers",
    )


def values_as_they_begin(case: Case) -> tuple[bool, float]:
    """Return whether Q values are small and unlike those of states, and what those of a state have in common."""
    q = np.asarray(case.q, float)[case.reached][:, case.allowed[case.reached].all(axis=0)]
    common = in_common(q) if q.shape[0] >= ENOUGH_STATES and q.shape[1] > 1 else math.nan
    if not q.size:
        return False, common
    small = bool(np.abs(q).mean() < SMALL * np.abs(the(case.reference).optimum.q[case.pairs]).mean())
    return small and (common < ALIKE or bool((q == q.flat[0]).all())), common


def in_common(q: Floats) -> float:
    """Return the intraclass correlation of values `[S, A]`: what those of a state have in common, 0 if nothing."""
    actions = q.shape[1]
    between, within = actions * q.mean(axis=1).var(ddof=1), q.var(axis=1, ddof=1).mean()
    return float((between - within) / max(between + (actions - 1) * within, 1e-30))


def state_as_number(case: Case) -> Finding | None:
    """Detect a network that takes the state number as a quantity."""
    if the(case.network).state_input != "number":
        return None
    return Finding(
        "state-as-number",
        case.worst,
        "the network takes the number of the state as one input, as if state 200 were twice state 100",
        {"input": "number", "states": case.states},
        "network",
        "state numbers are names, not quantities; of a single number, a small network can only form a curve "
        "with a few kinks",
        "one-hot: keras.layers.CategoryEncoding(num_tokens=states, output_mode='one_hot') before the first Dense; "
        "`deeptaxi train` does so",
    )


def mixes_states(case: Case) -> Finding | Unchecked | None:
    """Detect a network whose answer to one state depends on the others that are asked with it."""
    if case.mixing is None:
        return Unchecked(case.missing("network")) if case.network is None else None
    if case.training_mode is not None:
        return None  # chance, not the other states
    why, difference = case.mixing
    return Finding(
        "mixes-states",
        "severe",
        f"its Q values of a state depend on the other states in the batch, by up to {difference:.3g}",
        {"largest_difference": difference, "found": why},
        "network",
        "an operation runs over axis 0, the batch, as the mean over all advantages of a dueling head does without "
        "axis=1, or BatchNormalization with training=True: the network that acts, on one state, is not the one that "
        "was trained",
        "keras.ops.mean(advantage, axis=1, keepdims=True), and axis=-1 in whatever else reduces or normalizes; "
        "--dueling builds such a head",
    )


def training_mode_on(case: Case) -> Finding | Unchecked | None:
    """Detect a network that computes as in training while it acts, so that equal states have other Q values."""
    mode = case.training_mode
    if mode is None:
        return Unchecked(case.missing("network")) if case.network is None and case.mixing is None else None
    layers = ", ".join(mode.layers) or "a layer"
    does = f"gives another Q value each time, by up to {mode.again:.3g}"
    if not mode.again:
        does = f"gives a state alone other Q values than among others, by up to {mode.alone:.3g}"
    examined = "; the policy examined here is that of model(x, training=False), as of predict" if mode.avoidable else ""
    undecided = case.q is None and case.given is None
    cure = "leave training=True out of that call, as fit sets it by itself, and train the model again"
    if mode.avoidable and not case.harmful:
        cure = "act by model(x, training=False), and leave training=True out of that call when you build the model"
    return Finding(
        "training-mode-on",
        "severe" if undecided else case.worst if mode.changing else "warning",
        f"called as model(x), it {does}, and in {mode.changing} of {mode.states} states another action{examined}",
        {"layers": list(mode.layers), "difference_again": mode.again, "difference_alone": mode.alone,
         "states_changing": mode.changing, "states": mode.states, "still_without_training": mode.avoidable},
        "network",
        f"{layers} is called with training=True: units are dropped, noise is added, or values are normalized by the "
        "batch even when the agent acts and targets are computed",
        cure,
    )  # fmt: skip


NETWORK_CHECKS = (
    Check("model-not-trained", (), model_not_trained),
    Check("training-mode-on", (), training_mode_on),
    Check("mixes-states", (), mixes_states),
    Check("state-as-number", ("network",), state_as_number),
    Check("saturated-output", ("network",), saturated_output),
    Check("dead-relu-units", ("network",), dead_relu_units),
)
