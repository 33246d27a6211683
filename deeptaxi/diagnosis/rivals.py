"""Rivals: the values that Q settles on if the updates follow another rule, or if rows and columns mean something else.

Each rule has its fixed point, as the right one has Q*, and each is computed from the transition table. With V(s) the
greatest Q of a state, c the probability that the episode continues, and r the expected reward:

    no bootstrap            r
    done inverted           r + γ · Σ p · terminated · V(s'): what should end continues, what should continue ends
    mean over actions       r + γ · c · mean Q(s'), which is the value of random play, as SARSA at ε = 1 learns it
    min over actions        r + γ · c · min Q(s')
    own state               r + γ · c · V(s): the next state is stored as the state itself
    clipped rewards         Q* for rewards clipped to −1 … 1 (Mnih et al., 2015)
    n steps, uncorrected    n − 1 steps of the behavior, then V: what lies between Q* and the value of the behavior
    all actions             the target of the action taken is written to every action: the value of the behavior

and of Q* itself: with the columns in another order (the best assignment), its rows shifted by a few, the rows of a
square grid read column by column, or its sign turned. A model whose discount is unknown is held against several.

The errors of a fit are taken as Laplace distributed about its fixed point, so the nearest rival by likelihood is that
of the least mean |Q − rival|, and it explains Q only if Q is far from the right values and near to its own. Q that is
still on its way is near no fixed point, but to what its own rule makes of it: |Q − T Q| is the least for that rule's T.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from scipy.optimize import linear_sum_assignment

from deeptaxi.diagnosis.case import Case, Check, Finding, Unchecked, the
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable

FAR, CLOSE = 0.03, 0.25  # mean |Q − Q*| over the standard deviation of Q*
NEARER = 0.5  # distance to the rival over that to the right one
CLEARLY = 0.8  # distance to the nearest over that to another explanation
SWEEPS = 3_000
MANY_TRIALS = 1_000
SETTLED = 1e-7  # of the largest value
MANY = 20_000  # pairs from which only a few discounts are tried
VERY_MANY = 200_000  # pairs from which fixed points take minutes, and only those of the likeliest rules are computed
LIKELIEST = 3
DISCOUNTS = (0.5, 0.8, 0.9, 0.95, 0.97, 0.99)  # of rules, if the training's is unknown
RIGHT_DISCOUNTS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
FEW_DISCOUNTS = (0.9, 0.97, 0.99)
STEPS = (2, 3, 5, 10, 20)
SHIFTS = (1, -1, 2, -2, 3, -3)
BEYOND_DOUBT = 0.1  # distance to the rival over that to the right one, where both are near
AS_NEAR = 1.05  # times: two rivals that give the same values
SIMPLER = 1.3  # times: a rival of fewer steps is taken for one that is hardly nearer
ON_ITS_WAY = 0.1  # error of a rule's own targets over the scatter of Q
EQUAL = 0.01  # scatter within a state over that between states
RIGHT_AGAIN = 0.9  # of the states whose actions differ, after columns or rows were put in order
LIFTED = 0.3  # by that
BY_CHANCE = 1e-4  # probability that a random policy does so


@dataclass(frozen=True, eq=False)
class Rival:
    """An explanation of Q: the finding that it is, in words, its values `[S, A]`, and how far Q is from them."""

    finding: str
    words: str
    q: Floats
    distance: float
    discount: float


CAUSES = {
    "no-bootstrap": (
        "td_target is the reward alone: the value of the next state is left out, or every transition says terminated",
        "add discount · (1 − terminated) · max Q(next state) to the reward",
    ),
    "done-inverted": (
        "td_target bootstraps where the episode has ended and nowhere else: `done` is used the wrong way round",
        "multiply the bootstrap by (1 − terminated)",
    ),
    "mean-in-place-of-max": (
        "td_target takes the mean over the next actions, or what random behavior does next (SARSA at ε = 1, Monte "
        "Carlo): it learns how good random play is",
        "take the max over the next actions, or let ε fall",
    ),
    "min-in-place-of-max": (
        "td_target takes the least of the next actions' values, as for an opponent or for costs",
        "take the max over the next actions; of costs, make rewards by turning their sign",
    ),
    "own-state-bootstrapped": (
        "td_target bootstraps from the state that the action was taken in: the next state is stored wrongly, as an "
        "array is that the environment changes in place",
        "store a copy of the next state, and bootstrap from that",
    ),
    "rewards-clipped": (
        "rewards were clipped to −1 … 1 in training, so that large and small ones count the same",
        "leave the rewards as they are; scale all of them alike (--reward-scale) if they are too large for the network",
    ),
    "n-step-off-policy": (
        "the sums of n rewards follow the behavior, which explores, and nothing corrects that: what is learned is "
        "partly how good the behavior is",
        "--n-step 1",
    ),
    "target-in-all-actions": (
        "td_target is written to all actions of the state, not only to the one that was taken",
        "copy the network's own predictions and overwrite the entry of the action taken alone",
    ),
    "actions-permuted": (
        "the model numbers its actions in another order than the environment",
        "put its outputs in the environment's order, {order}",
    ),
    "states-shifted": (
        "the model numbers states otherwise than the environment: its rows are shifted by {shift}",
        "shift its rows, or subtract where numbering starts from the observation",
    ),
    "states-transposed": (
        "the model numbers the fields of the grid column by column, the environment row by row",
        "transpose its rows: q.reshape(side, side, -1).swapaxes(0, 1)",
    ),
    "values-negated": (
        "its values are costs, or its rewards have the opposite sign: it prefers what is worst",
        "turn the sign of the rewards, or take the argmin",
    ),
}
RULES = tuple(CAUSES)[:8]


def fixed_point(step: Callable[[Floats], Floats], first: Floats) -> Floats:
    """Iterate until the values `[S, A]` settle, or for `SWEEPS` times."""
    q = first
    for _ in range(SWEEPS):
        better = step(q)
        if float(np.abs(better - q).max()) <= SETTLED * (1e-9 + float(np.abs(better).max())):
            return better
        q = better
    return q


def mean_over(q: Floats, allowed: Bools) -> Floats:
    """Return the mean over the allowed actions, `[S]`."""
    return np.asarray(np.where(allowed, q, 0.0).sum(axis=1) / allowed.sum(axis=1))


def greatest_of(q: Floats, allowed: Bools) -> Floats:
    """Return the greatest over the allowed actions, `[S]`."""
    return np.asarray(np.where(allowed, q, -np.inf).max(axis=1))


def n_step_values(table: TransitionTable, discount: float, steps: int, epsilon: float, allowed: Bools) -> Floats:
    """Return what targets of n steps converge to without a correction, `[S, A]`.

    The first action is the pair's own, the next n − 1 are those of the ε-greedy behavior, and then comes the max.
    """
    return fixed_point(
        lambda q: n_step_targets(table, q, discount, steps, epsilon, allowed), np.zeros((table.states, table.actions))
    )


def n_step_targets(
    table: TransitionTable, q: Floats, discount: float, steps: int, epsilon: float, allowed: Bools
) -> Floats:
    """Return the expected targets of n steps without a correction, `[S, A]`."""
    rows = np.arange(table.states)
    greedy = np.where(allowed, q, -np.inf).argmax(axis=1)
    value = q[rows, greedy]
    for _ in range(steps - 1):
        ahead = planning.bellman(table, value, discount)
        value = epsilon * mean_over(ahead, allowed) + (1 - epsilon) * ahead[rows, greedy]
    return planning.bellman(table, value, discount)


def rule_values(rule: str, table: TransitionTable, discount: float, allowed: Bools, steps: int = 1) -> Floats:
    """Return the fixed point of a wrong rule, `[S, A]`; `steps` is n of `n-step-off-policy` under random behavior."""
    zeros = np.zeros((table.states, table.actions))
    if rule == "rewards-clipped":
        return planning.value_iteration(replace(table, reward=np.clip(table.reward, -1, 1)), discount, allowed).q
    if rule == "target-in-all-actions":
        value = planning.evaluate_policy(table, planning.uniform_policy(table, allowed), discount).value
        return np.repeat(value[:, None], table.actions, axis=1)
    return fixed_point(lambda q: apply_rule(rule, table, q, discount, allowed, steps), zeros)


def apply_rule(rule: str, table: TransitionTable, q: Floats, discount: float, allowed: Bools, steps: int = 1) -> Floats:
    """Return the expected targets that a wrong rule makes of Q, `[S, A]`."""
    if rule == "no-bootstrap":
        return table.expected_reward
    if rule == "done-inverted":
        inverted = replace(table, terminated=~table.terminated)
        return planning.bellman(inverted, greatest_of(q, allowed), discount)
    if rule == "mean-in-place-of-max":
        return planning.bellman(table, mean_over(q, allowed), discount)
    if rule == "min-in-place-of-max":
        return planning.bellman(table, -greatest_of(-q, allowed), discount)
    if rule == "own-state-bootstrapped":
        goes_on = table.continuation.sum(axis=-1)
        own: Floats = table.expected_reward + discount * goes_on * greatest_of(q, allowed)[:, None]
        return own
    if rule == "rewards-clipped":
        clipped = replace(table, reward=np.clip(table.reward, -1, 1))
        return planning.bellman(clipped, greatest_of(q, allowed), discount)
    if rule == "n-step-off-policy":
        return n_step_targets(table, q, discount, steps, 1.0, allowed)
    targets = mean_over(planning.bellman(table, greatest_of(q, allowed), discount), allowed)
    return np.repeat(targets[:, None], table.actions, axis=1)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The nearest rival of each kind, nearest first, and how far Q is from the right values at the same discounts."""

    right: Rival
    rivals: tuple[Rival, ...]
    on_its_way: tuple[Rival, Rival] | None = None  # the rule whose own targets Q is nearest to, and the right one

    @property
    def nearest(self) -> Rival | None:
        """The nearest rival, if it explains Q and the right values do not."""
        best = self.rivals[0] if self.rivals else None
        return best if best is not None and explains(self.right, best) else None


_compared: WeakKeyDictionary[Case, Comparison | None] = WeakKeyDictionary()


def compare_rivals(case: Case) -> Comparison | None:
    """Hold Q against all rivals; None if it was trained here, by the right rule, or if its policy is not bad."""
    if case not in _compared:
        _compared[case] = compared(case) if can_compare(case) else None
    return _compared[case]


def can_compare(case: Case) -> bool:
    """Whether a wrong rule may explain Q."""
    known = case.table is not None and case.q is not None and not case.broken
    return known and case.config is None and bool(case.harmful)


def compared(case: Case) -> Comparison:
    """Compute the rivals' values and their distances."""
    table, pairs = the(case.table), case.learned_pairs
    q = np.where(case.allowed, np.asarray(the(case.q), float), 0.0)
    if case.training_discount is not None:
        tried: tuple[float, ...] = (min(case.training_discount, 0.999),)
        known = tried
    else:
        many = table.states * table.actions > MANY
        tried, known = (FEW_DISCOUNTS, FEW_DISCOUNTS) if many else (DISCOUNTS, RIGHT_DISCOUNTS)
    rules = list(rules_tried(tried))
    targets = [targets_of(case, q, rule) for rule in rules]
    if table.states * table.actions > VERY_MANY:  # Q that follows a rule is near to what the rule makes of it
        ranked = sorted(zip(rules, targets, strict=True), key=lambda pair: pair[1].distance)
        rules = [rule for rule, _ in ranked[:LIKELIEST]]
    truths = [(planning.value_iteration(table, discount, case.allowed).q, discount) for discount in known]
    found: list[Rival] = []
    for rule in rules:
        values = rule_values(rule.name, table, rule.discount, case.allowed, rule.steps)
        found.append(Rival(rule.name, rule.words, values, mean_distance(q, values, pairs), rule.discount))
    rights = []
    for truth, discount in truths:
        truth = np.where(case.allowed, truth, 0.0)
        rights.append(Rival("", "the problem's own", truth, mean_distance(q, truth, pairs), discount))
        found += list(rearranged(q, truth, discount, pairs))
    right = min(rights, key=lambda rival: rival.distance)
    return Comparison(right, best_of_each(found), compare_targets(case, q, known, targets))


class Rule(NamedTuple):
    """A wrong rule of updates: its finding, its discount, and n of n-step targets."""

    name: str
    discount: float
    steps: int

    @property
    def words(self) -> str:
        """What Q is near to if it follows the rule."""
        return f"{self.steps}-step targets under random behavior" if self.steps > 1 else WORDS[self.name]


def rules_tried(discounts: tuple[float, ...]) -> Iterator[Rule]:
    """Yield all wrong rules at each discount."""
    for discount in discounts:
        for name in RULES:
            for steps in STEPS if name == "n-step-off-policy" else (1,):
                yield Rule(name, discount, steps)


def targets_of(case: Case, q: Floats, rule: Rule) -> Rival:
    """Return what a rule makes of Q, and how far Q is from that."""
    targets = apply_rule(rule.name, the(case.table), q, rule.discount, case.allowed, rule.steps)
    return Rival(rule.name, rule.words, targets, mean_distance(q, targets, case.learned_pairs), rule.discount)


def best_of_each(found: list[Rival]) -> tuple[Rival, ...]:
    """Return the nearest rival of each kind, nearest first."""
    best: dict[str, Rival] = {}
    for rival in found:
        if rival.finding not in best or rival.distance < best[rival.finding].distance:
            best[rival.finding] = rival

    def rank(rival: Rival) -> float:  # many steps of random behavior become its mean
        return rival.distance * (SIMPLER if is_endless(rival) else 1.0)

    return tuple(sorted(best.values(), key=rank))


def is_endless(rival: Rival) -> bool:
    """Whether it is of so many steps of random behavior that little else is left."""
    return rival.words.startswith(f"{STEPS[-1]}-step")


def compare_targets(
    case: Case, q: Floats, known: tuple[float, ...], targets: list[Rival]
) -> tuple[Rival, Rival] | None:
    """Return the rule whose `targets` Q is nearest to, if that distinguishes it from the others, and the right rule."""
    pairs, rights = case.learned_pairs, []
    for discount in known:
        own = planning.bellman(the(case.table), greatest_of(q, case.allowed), discount)
        rights.append(Rival("", "its own targets", own, mean_distance(q, own, pairs), discount))
    first, second = best_of_each(targets)[:2]
    right = min(rights, key=lambda rival: rival.distance)
    apart = min(right.distance, second.distance if second.distance > first.distance else right.distance)
    near = first.distance < min(ON_ITS_WAY * scatter(q[pairs]), NEARER * apart)
    return (first, right) if near else None


def scatter(values: Floats) -> float:
    """Return the mean distance of values to their median, which a few extreme ones do not rule; never 0."""
    return float(max(np.abs(values - np.median(values)).mean(), 1e-9))


WORDS = {
    "no-bootstrap": "the rewards alone",
    "done-inverted": "a problem that continues where it should end",
    "mean-in-place-of-max": "the mean over the next actions",
    "min-in-place-of-max": "the least over the next actions",
    "own-state-bootstrapped": "targets that bootstrap from the same state",
    "rewards-clipped": "the problem with clipped rewards",
    "target-in-all-actions": "the value of random play in every action",
}


def mean_distance(q: Floats, other: Floats, pairs: Bools) -> float:
    """Return the mean |Q − other| over `pairs`, all `[S, A]`."""
    return float(np.abs(q[pairs] - other[pairs]).mean()) if pairs.any() else 0.0


def rearranged(q: Floats, truth: Floats, discount: float, pairs: Bools) -> Iterator[Rival]:
    """Yield Q* with its columns or rows in another order, or with its sign turned."""
    states = pairs.any(axis=1)
    cost = np.abs(q[states][:, :, None] - truth[states][:, None, :]).mean(axis=0)  # [column of Q, action]
    columns = linear_sum_assignment(cost)[1]
    if not np.array_equal(columns, np.arange(len(columns))):
        order = ", ".join(f"output {i} is action {int(a)}" for i, a in enumerate(columns) if i != a)
        yield Rival("actions-permuted", order, truth[:, columns], float(cost[range(len(columns)), columns].mean()),
                    discount)  # fmt: skip
    for shift in SHIFTS:
        moved = np.roll(truth, shift, axis=0)
        both = pairs & np.roll(states, shift)[:, None]
        yield Rival("states-shifted", f"its rows shifted by {shift}", moved, mean_distance(q, moved, both), discount)
    side = round(len(q) ** 0.5)
    if side * side == len(q):
        turned = truth.reshape(side, side, -1).swapaxes(0, 1).reshape(truth.shape)
        both = pairs & states.reshape(side, side).T.reshape(-1)[:, None]
        yield Rival("states-transposed", "its rows read column by column", turned, mean_distance(q, turned, both),
                    discount)  # fmt: skip
    yield Rival(
        "values-negated", "its values with the opposite sign", -truth, mean_distance(q, -truth, pairs), discount
    )


def explains(right: Rival, rival: Rival) -> bool:
    """Whether a rival explains Q, and the right values do not."""
    if rival.distance >= CLOSE * scatter(rival.q):
        return False
    far = right.distance > FAR * scatter(right.q) and rival.distance < NEARER * right.distance
    return far or rival.distance < BEYOND_DOUBT * right.distance


def is_beaten(case: Case, distance: float) -> bool:
    """Whether some rival is clearly nearer to Q than an explanation at this distance."""
    found = compare_rivals(case)
    return found is not None and found.nearest is not None and found.nearest.distance < CLEARLY * distance


def check_rival(name: str, case: Case) -> Finding | Unchecked | None:
    """Return the finding if the rival that explains Q is of this name."""
    if case.config is not None or not case.harmful:
        return None
    found = compare_rivals(case)
    if found is None or (found.nearest is None and found.on_its_way is None and not has_equal_actions(case)):
        return order_finding(case, name)
    way = found.on_its_way
    many_steps = found.nearest is not None and is_endless(found.nearest)
    if many_steps and way is not None and way[0].finding == "mean-in-place-of-max":
        return rule_finding(case, name, *way)  # which looks like many steps before it has settled
    if found.nearest is not None:
        return rival_finding(case, name, found, found.nearest)
    if found.on_its_way is not None:
        return rule_finding(case, name, *found.on_its_way)
    return equal_actions_finding(case, name)


def rival_finding(case: Case, name: str, found: Comparison, nearest: Rival) -> Finding | None:
    """Return the finding if the nearest rival is of this name."""
    if nearest.finding != name:
        return None
    following = [rival for rival in found.rivals if rival is not nearest]
    also = min([*following, found.right], key=lambda rival: rival.distance)
    cause, cure = texts_of(name, nearest)
    if also.finding in RULES and also.distance <= AS_NEAR * nearest.distance + 1e-9:
        cause = f"{cause}; or {also.finding}, which gives the same values here"
    return Finding(
        name,
        case.worst,
        f"Q is off by {nearest.distance:.3g} from {nearest.words}, and by {found.right.distance:.3g} from Q* of the "
        f"problem, at discount {nearest.discount:g}; the next nearest, {also.finding or 'Q* itself'}, by "
        f"{also.distance:.3g}",
        {"distance": nearest.distance, "distance_right": found.right.distance, "discount": nearest.discount,
         "next": also.finding or "right", "distance_next": also.distance,
         "times_nearer": also.distance / max(nearest.distance, 1e-12)},
        "exact",
        cause,
        cure,
    )  # fmt: skip


def rule_finding(case: Case, name: str, rule: Rival, right: Rival) -> Finding | None:
    """Return the finding if Q is on its way by the rule of this name."""
    if rule.finding != name:
        return None
    cause, cure = texts_of(name, rule)
    return Finding(
        name,
        case.worst,
        f"Q has not settled, but is off by {rule.distance:.3g} from {rule.words} made of itself, and by "
        f"{right.distance:.3g} from the right targets",
        {"distance": rule.distance, "distance_right": right.distance, "discount": rule.discount},
        "exact",
        cause,
        cure,
    )


def has_equal_actions(case: Case) -> bool:
    """Whether the actions of every state have the same value, and states do not, though Q* tells actions apart."""
    q, truth = np.asarray(the(case.q), float)[case.reached], the(case.reference).optimum.q[case.reached]
    if not case.allowed[case.reached].all() or len(q) < 2 or q.shape[1] < 2:
        return False
    within, between, right = float(np.ptp(q, axis=1).mean()), scatter(q.mean(axis=1)), scatter(truth.mean(axis=1))
    return within < EQUAL * between and between > FAR * right and float(np.ptp(truth, axis=1).mean()) > EQUAL * right


def equal_actions_finding(case: Case, name: str) -> Finding | None:
    """Return the finding of actions that all have the same value."""
    if name != "target-in-all-actions":
        return None
    q = np.asarray(the(case.q), float)[case.reached]
    within, between = float(np.ptp(q, axis=1).mean()), scatter(q.mean(axis=1))
    return Finding(
        name,
        case.worst,
        f"Q of the actions of a state differs by {within:.2g}, and from state to state by {between:.3g}: it tells "
        "states apart, and not actions",
        {"within_states": within, "between_states": between},
        "exact",
        *CAUSES[name],
    )


def texts_of(name: str, rival: Rival) -> tuple[str, str]:
    """Return the cause and the cure of a rival."""
    cause, cure = CAUSES[name]
    shift = rival.words.removeprefix("its rows shifted by ")
    return (
        (cause.format(shift=shift), cure) if name == "states-shifted" else (cause, cure.replace("{order}", rival.words))
    )


def order_finding(case: Case, name: str) -> Finding | None:
    """Find columns or rows in another order by the policy alone: put in order, it is right nearly everywhere."""
    found = reordered_policy(case)
    if found is None or found[0] != name:
        return None
    _, words, before, after = found
    cause, cure = texts_of(name, Rival(name, words, case.optimal.astype(float), 0.0, 0.0))
    return Finding(
        name,
        case.worst,
        f"its actions are right in {before:.0%} of the states, and with {words} in {after:.0%}",
        {"right": before, "right_in_order": after, "order": words},
        "exact",
        cause,
        cure,
    )


def reordered_policy(case: Case) -> tuple[str, str, float, float] | None:
    """Return the finding, the order in words, and the share of right actions before and after; None if none helps."""
    optimal, policy = case.optimal, case.policy
    telling = case.reached & (optimal & case.allowed).any(axis=1) & ~(optimal | ~case.allowed).all(axis=1)
    states = np.flatnonzero(telling)
    if not len(states):
        return None
    before = float(optimal[states, policy[states]].mean())
    candidates: list[tuple[float, str, str]] = []
    matches = np.zeros((case.actions, case.actions))
    np.add.at(matches, policy[states], optimal[states].astype(float))
    columns = linear_sum_assignment(-matches)[1]
    order = ", ".join(f"output {i} is action {int(a)}" for i, a in enumerate(columns) if i != a)
    used = np.unique(policy[states])
    if order and len(used) > 1:
        candidates.append((float(matches[range(case.actions), columns].sum() / len(states)), "actions-permuted", order))
    candidates += shifted_policies(policy, optimal, telling)
    side = round(case.states**0.5)
    if side * side == case.states:
        turned = policy.reshape(side, side).T.reshape(-1)
        candidates.append(
            (float(optimal[states, turned[states]].mean()), "states-transposed", "its rows read column by column")
        )
    if case.q is not None:
        lowest = np.where(case.allowed, np.asarray(case.q, float), np.inf).argmin(axis=1)
        candidates.append(
            (float(optimal[states, lowest[states]].mean()), "values-negated", "its values with the opposite sign")
        )
    after, name, words = max(candidates)
    if after < max(RIGHT_AGAIN, before + LIFTED):
        return None
    chance = float(optimal[states].mean())
    tried = len(candidates) - 1 + math.factorial(min(case.actions, 6))
    lucky = tried * at_least(round(after * len(states)), len(states), chance)
    return (name, words, before, after) if lucky < BY_CHANCE else None


def at_least(count: int, of: int, chance: float) -> float:
    """Return the probability of `count` or more successes in `of` trials."""
    if of > MANY_TRIALS:  # Hoeffding's bound
        return math.exp(-2 * of * max(0.0, count / of - chance) ** 2)
    return sum(math.comb(of, k) * chance**k * (1 - chance) ** (of - k) for k in range(count, of + 1))


def shifted_policies(policy: Ints, optimal: Bools, telling: Bools) -> list[tuple[float, str, str]]:
    """Return how often the actions of rows shifted back are right."""
    found = []
    for shift in SHIFTS:
        back = np.roll(policy, -shift)
        states = np.flatnonzero(telling)
        share = float(optimal[states, back[states]].mean())
        found.append((share, "states-shifted", f"its rows shifted by {shift}"))
    return found


CHECKS = tuple(Check(name, ("table", "verdict"), partial(check_rival, name)) for name in CAUSES)
