"""Check an environment without a table by random play: what ends its episodes, and what its answers depend on.

The answers of a Markov decision process depend on the state and the action alone. So, over random transitions
(s, a, r, s'), with those before them in their episodes:

    places     (s, a, s') that always truncates, at different steps and before the limit, ends episodes: it is terminal
    limits     (s, a, s') that sometimes ends episodes does so at any step with the same probability, not at one alone
    lag        s' depends on a and, given (s, a), not on the action before
    late       r depends on (s, a, s') and, given that, not on the transition before

**Limits.** Of each (s, a, s'), n transitions of which m end an episode are those with the m steps t of n that chance
picks, so that their sum has the mean m·t̄ and the variance m·(n − m)/(n − 1)·Var(t) (Lehmann, Nonparametrics, 1975,
section 1.3). Over all of them, the sums differ from their means by less than `SURE` standard deviations.

**Lag.** The information that X has about s' given Y is estimated by (G − df)/2N nats, with the likelihood ratio
statistic G = 2N·(H(s' | Y) − H(s' | X, Y)) and its degrees of freedom. Observations one step late have all of it in the
action before, and nothing in the present one.

**Late.** The variance of r within equal (s, a, s') is compared with that within equal transitions before. Rewards for
being in a state are no evidence, as those of the state that was left would do as well; so the first of each episode is
compared with later ones of equal (s, a, s') too.

Real numbers in bins are no Markov state, so of these only places are looked at there. A table needs none of this: it
was compared with the steps of its environment (`mdp.verify`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from deeptaxi.diagnosis.case import Case, Check, Finding, Sample, Severity, Unchecked, the
from deeptaxi.mdp.discovery import AT_A_PLACE, HIDES, TRUNCATES
from deeptaxi.mdp.table import Bools, Floats, Ints

FEW = 5  # endings, below which nothing is concluded
ALWAYS = 2  # occurrences of a transition that always ends
PLACES = 0.9  # of the truncated transitions, at such places
HALF = 0.5  # of them, at places where episodes continue at other times
SURE = 6.0  # standard deviations
ENOUGH = 1_000  # transitions, below which nothing is concluded of the past
INFORMATION = 0.05  # nats
EXPLAINED = 0.2  # of the entropy of the next state
NOTHING = 0.1  # of the information in the action before
RESIDUAL = 0.3  # variance of rewards given the transition before, over that given their own
LEFT = 0.01  # of the variance of rewards, by their own transitions
SHARE = 0.05  # of later transitions that pay as the first of an episode
REPEATED = 3  # occurrences of a transition whose rewards are compared
HIDDEN = ("hidden-time-limit", "observations-lag", "rewards-late")
BINNED = "its observations are real numbers in bins, whose past matters anyway"


def transition_keys(case: Case, sample: Sample) -> Ints:
    """Return a number for each distinct (s, a, s'), `[n]`."""
    return np.asarray((sample.state * case.actions + sample.action) * case.states + sample.next_state)


def identified(sample: Sample) -> Bools:
    """Mark the transitions between observations that have numbers of their own, `[n]`."""
    return np.asarray((sample.state != sample.shared_state) & (sample.next_state != sample.shared_state))


def groups(*parts: Ints) -> Ints:
    """Number the distinct combinations of parts, each `[n]`, from 0."""
    found = np.zeros(len(parts[0]), np.int64)
    for part in parts:
        numbers = np.unique(part, return_inverse=True)[1]
        found = np.unique(found * (int(numbers.max(initial=0)) + 1) + numbers, return_inverse=True)[1]
    return np.asarray(found)


def count_within(marks: Bools, keys: Ints | Floats) -> tuple[Ints, Ints]:
    """Return how many transitions have the key of each one, and how many of these are marked, both `[n]`."""
    numbers = np.unique(keys, return_inverse=True)[1]
    return np.bincount(numbers)[numbers], np.bincount(numbers, marks).astype(np.int64)[numbers]


def join(one: Sample, other: Sample) -> Sample:
    """Return the transitions of two samples together."""
    names = ("state", "action", "reward", "next_state", "terminated", "truncated", "time", "greedy")
    columns = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names}
    previous = [one.previous, np.where(other.previous < 0, -1, other.previous + len(one.state))]
    episodes = (one.episodes[0] + other.episodes[0], one.episodes[1] + other.episodes[1])
    return Sample(**columns, episodes=episodes, shared_state=one.shared_state, previous=np.concatenate(previous))


def early_truncations(case: Case, sample: Sample) -> Bools:
    """Mark the transitions that truncated an episode before a limit of steps did, `[n]`."""
    truncated = sample.truncated & ~sample.terminated & identified(sample)
    if not truncated.any():
        return truncated
    limit = case.environment.time_limit or int(sample.time.max())
    return np.asarray(truncated & (sample.time < min(limit, case.horizon)))


def ends_by_place(case: Case, sample: Sample, early: Bools) -> Bools:
    """Mark the `early` truncations by transitions, into states or with rewards that always truncate, `[n]`."""
    ends = sample.truncated & ~sample.terminated
    marked = np.zeros(len(early), np.bool_)
    for of in (transition_keys(case, sample), sample.next_state, sample.reward):
        count, truncated = count_within(ends, of)
        marked |= (count == truncated) & (count >= ALWAYS)
    count, truncated = count_within(ends, transition_keys(case, sample))
    return np.asarray(early & marked & (count == truncated))


def termination_as_truncation(case: Case) -> Finding | None:
    """Detect a place, such as a goal, that ends episodes by `truncated`."""
    sample = the(case.random_play)
    if case.sample is not None:  # the policy may come to a goal that chance does not
        sample = join(sample, case.sample)
    early = early_truncations(case, sample)
    placed = ends_by_place(case, sample, early)
    if early.sum() < FEW:
        return truncation_in_the_walk(case)
    if placed.sum() < PLACES * early.sum():
        return None
    ends, times = sample.next_state[placed], sample.time[placed]
    if times.min() == max(times.max(), sample.time.max()):
        return None  # no episode lasts longer: that is a limit
    place = int(np.bincount(ends).argmax())
    paid, elsewhere = sample.reward[placed].max(), sample.reward[~placed].max(initial=-np.inf)
    severity: Severity = "severe" if paid > elsewhere or not sample.terminated.any() else "note"
    if severity == "note" and paid == elsewhere:
        severity = "warning"  # a goal, or the edge of the world
    return truncation_finding(
        severity,
        f"{int(placed.sum()):,} episodes were truncated after {times.min()} to {times.max()} steps, before any limit, "
        f"by transitions that always do so, mostly into state {place}: that is a place, not a limit of time",
        {"episodes": int(placed.sum()), "state": place, "first_step": int(times.min()), "last_step": int(times.max()),
         "reward": float(sample.reward[placed].mean()), "episodes_terminated": int(sample.terminated.sum())},
    )  # fmt: skip


def truncation_in_the_walk(case: Case) -> Finding | None:
    """Return what the walk through the states says of places that chance hardly ever comes to."""
    steps, found, _ = case.missing("table").partition(TRUNCATES)[2].partition(AT_A_PLACE)
    if not found:
        return None
    seen = f"walking through its states, it truncates episodes by itself, {steps}: that is a place, not a limit of time"
    return truncation_finding("warning", seen, {"walk": steps})


def truncation_finding(severity: Severity, summary: str, evidence: dict[str, object]) -> Finding:
    """Create the finding."""
    return Finding(
        "termination-as-truncation",
        severity,
        summary,
        evidence,
        "episodes",
        "the environment returns truncated=True where an episode is over for good, so td_target adds the value of a "
        "state in which nothing ever follows",
        "return terminated=True there, and leave truncated to the limit of steps (gymnasium's TimeLimit, --time-limit)",
    )


def hidden_time_limit(case: Case) -> Finding | Unchecked | None:
    """Detect episodes that are ended by how long they have lasted, at a step that differs from one to the next."""
    if case.binned:
        return Unchecked(BINNED)
    sample = the(case.random_play)
    early = early_truncations(case, sample)
    count, truncated = count_within(sample.truncated, transition_keys(case, sample))
    drawn = early & (truncated < count)
    if drawn.sum() >= max(FEW, HALF * early.sum()) and len(np.unique(sample.time[drawn])) > 1:
        return limit_finding(sample, drawn, "warning", "truncated")
    ends = sample.terminated & identified(sample)
    count, ended = count_within(ends, transition_keys(case, sample))
    either = identified(sample) & (ended > 0) & (ended < count)
    times = np.unique(sample.time[ends & either])
    if (ends & either).sum() < FEW or len(times) < 2:
        return None  # at one step alone: `terminating_limit`
    if deviation(ends[either], sample.time[either].astype(float), transition_keys(case, sample)[either]) < SURE:
        return None
    return limit_finding(sample, ends & either, "severe", "terminated")


def terminating_limit(case: Case, sample: Sample) -> Finding | None:
    """Detect transitions that end episodes only at one particular step and continue at others."""
    ends, keys = sample.terminated & identified(sample), transition_keys(case, sample)
    going_on = np.unique(keys[~sample.terminated & ~sample.truncated])
    both = ends & np.isin(keys, going_on)
    if both.sum() < FEW or len(np.unique(sample.time[both])) > 1:
        return None
    step = int(sample.time[both][0])
    if step != int(sample.time.max()):
        return None
    return Finding(
        "truncation-as-terminal",
        "severe",
        f"the environment says terminated after step {step} in {int(both.sum())} episodes, by transitions that "
        "continue at other times: that is a time limit",
        {"step": step, "episodes": int(both.sum()), "transitions": len(np.unique(keys[both]))},
        "episodes",
        "the environment returns terminated where it should return truncated, so states before the limit look terminal",
        "return truncated=True at the time limit, or leave the limit to gymnasium's TimeLimit (--time-limit)",
    )


def deviation(ends: Bools, times: Floats, keys: Ints) -> float:
    """Return by how many standard deviations endings come later than by chance within equal keys; each `[n]`."""
    numbers = groups(keys)
    count, ended = np.bincount(numbers), np.bincount(numbers, ends)
    mean = np.bincount(numbers, times) / count
    variance = np.bincount(numbers, (times - mean[numbers]) ** 2) / count
    spread = (ended * (count - ended) / np.maximum(count - 1, 1) * variance).sum()
    return float((times[ends].sum() - (ended * mean).sum()) / np.sqrt(spread)) if spread > 0 else 0.0


def limit_finding(sample: Sample, ends: Bools, severity: Severity, flag: str) -> Finding:
    """Return the finding of a limit that is drawn, or that another hidden thing sets."""
    times = sample.time[ends]
    harm = "states before it look terminal" if flag == "terminated" else "what can still be earned is not known"
    return Finding(
        "hidden-time-limit",
        severity,
        f"{len(times):,} episodes were {flag} after {times.min()} to {times.max()} steps, by transitions that continue "
        "at other times: how long an episode has lasted decides, and observations do not show when",
        {"episodes": len(times), "flag": flag, "first_step": int(times.min()), "last_step": int(times.max()),
         "mean_step": float(times.mean())},
        "episodes",
        f"the environment has a limit of its own, which is drawn at random or hidden, and returns {flag} there: {harm}",
        "return truncated=True at a fixed number of steps (gymnasium's TimeLimit, --time-limit), or show in the "
        "observation how many are left",
    )  # fmt: skip


def conditional_entropy(values: Ints, given: Ints) -> float:
    """Return H(values | given) in nats; both are numbered from 0, `[n]`."""
    pairs = groups(given, values)
    count, within = np.bincount(pairs), np.bincount(given)
    share = count / within[given[np.unique(pairs, return_index=True)[1]]]
    return float(-(count * np.log(share)).sum() / len(values))


def information(values: Ints, more: Ints, given: Ints) -> float:
    """Estimate the information in nats that `more` has about `values`, where `given` is known; each `[n]`."""
    gained = conditional_entropy(values, given) - conditional_entropy(values, groups(given, more))

    def distinct(part: Ints) -> Ints:
        firsts = np.unique(groups(given, part), return_index=True)[1]
        return np.bincount(given[firsts], minlength=int(given.max()) + 1)

    degrees = float(((distinct(values) - 1) * (distinct(more) - 1)).sum())
    return max(0.0, gained - degrees / (2 * len(values)))


def followers(sample: Sample) -> Ints:
    """Return the transitions that have one before them in their episode, by index, `[m]`."""
    known = identified(sample)
    return np.flatnonzero((sample.previous >= 0) & known & known[sample.previous])


def observations_lag(case: Case) -> Finding | Unchecked | None:
    """Detect observations of the state before the step, or actions that take effect one step late."""
    if case.binned:
        return Unchecked(BINNED)
    sample = the(case.random_play)
    later = followers(sample)
    if len(later) < ENOUGH:
        return None
    state, action, reached = groups(sample.state[later]), sample.action[later], groups(sample.next_state[later])
    before = sample.action[sample.previous[later]]
    entropy = conditional_entropy(reached, groups(state, action))
    earlier = information(reached, before, groups(state, action))
    present = information(reached, action, groups(state, before))
    if earlier < max(INFORMATION, EXPLAINED * entropy) or present > NOTHING * earlier:
        return None
    first = sample.previous < 0
    still = float((sample.state[first] == sample.next_state[first]).mean())
    return Finding(
        "observations-lag",
        "severe",
        f"the next observation depends on the action before ({earlier:.2g} nats) and not on the present one "
        f"({present:.2g}); in {still:.0%} of the episodes, the first step changes nothing",
        {"information_of_action_before": earlier, "information_of_action": present, "entropy": entropy,
         "first_step_changes_nothing": still, "transitions": len(later)},
        "episodes",
        "step returns the observation of the state before the action, or the action takes effect one step late: in "
        "what the agent sees, its own action has no consequence",
        "compute the observation after the state was changed, as the last thing in step, and return a copy of it; if "
        "actions are delayed on purpose, put the pending action into the observation",
    )  # fmt: skip


def rewards_late(case: Case) -> Finding | Unchecked | None:
    """Detect rewards that are for the transition before, or that are 0 at first where they otherwise are not."""
    if case.binned:
        return Unchecked(BINNED)
    sample = the(case.random_play)
    found = evidence_of_the_past(case, sample) or evidence_of_first_steps(case, sample)
    if found is None:
        return None
    summary, evidence = found
    return Finding(
        "rewards-late",
        "severe",
        summary,
        evidence,
        "episodes",
        "step returns the reward of the step before, so that it is credited to another state and action, and the last "
        "of each episode, as that of a goal, never comes",
        "compute the reward of this very transition in step, before it returns",
    )


Evidence = tuple[str, dict[str, float]]


def evidence_of_the_past(case: Case, sample: Sample) -> Evidence | None:
    """Return whether rewards are explained by the transitions before, and not by their own."""
    keys, later = transition_keys(case, sample), followers(sample)
    own, before = keys[later], keys[sample.previous[later]]
    for _ in range(2):  # each kind of transition leaves some of the other too rare
        often = np.minimum(*(occurrences(of) for of in (own, before))) >= REPEATED
        later, own, before = later[often], own[often], before[often]
    reward = sample.reward[later]
    if len(later) < ENOUGH or (reward != np.median(reward)).sum() < FEW:
        return None
    given_own, given_before = (variance_within(reward, of) for of in (own, before))
    if given_own < LEFT * reward.var() or given_before > RESIDUAL * given_own:
        return None
    return (
        f"equal transitions leave a variance of {given_own:.2g} of their rewards, and equal transitions before them "
        f"{given_before:.2g}: rewards are those of the step before",
        {"variance_given_transition": given_own, "variance_given_transition_before": given_before,
         "transitions": len(later)},
    )  # fmt: skip


def evidence_of_first_steps(case: Case, sample: Sample) -> Evidence | None:
    """Return whether the first reward of every episode is the same, and later ones of equal transitions never are."""
    known, first = identified(sample), sample.previous < 0
    rewards = sample.reward[first & known]
    if len(rewards) < FEW or (rewards != rewards[0]).any():
        return None
    keys = transition_keys(case, sample)
    again = known & ~first & np.isin(keys, keys[first & known])
    as_first = again & (sample.reward == rewards[0])
    if again.sum() < FEW or as_first.sum() > SHARE * again.sum():
        return None
    usual = float(np.median(sample.reward[again]))
    return (
        f"the first reward of each of {len(rewards)} episodes is {rewards[0]:g}, where equal transitions later pay "
        f"{usual:g}: rewards come one step late",
        {"first_reward": float(rewards[0]), "episodes": len(rewards), "later_reward": usual,
         "equal_transitions_later": int(again.sum()), "of_which_as_first": int(as_first.sum())},
    )  # fmt: skip


def occurrences(keys: Ints) -> Ints:
    """Return how often the key of each transition occurs, `[n]`."""
    numbers = groups(keys)
    return np.bincount(numbers)[numbers]


def variance_within(values: Floats, keys: Ints) -> float:
    """Return the variance of `values` about the means of equal keys, both `[n]`; 0 if no key is there twice."""
    numbers = groups(keys)
    count = np.bincount(numbers)
    mean = np.bincount(numbers, values) / count
    free = len(values) - len(count)
    return float(((values - mean[numbers]) ** 2).sum() / free) if free else 0.0


def no_reward_seen(case: Case) -> Finding | None:
    """Detect that neither random play, nor the policy, nor the training was ever paid anything."""
    sample, played, history = the(case.random_play), case.sample, case.history
    returns = [item.mean_return for item in history.progress if item.mean_return is not None] if history else []
    greedy = played is not None and bool(played.greedy.any())
    if sample.reward.any() or (played is not None and played.reward.any()) or any(returns) or not (greedy or returns):
        return None
    ended = int(sample.terminated.sum())
    trained = f", nor did its training in {len(returns)} records of returns" if returns else ""
    return Finding(
        "no-reward-seen",
        "severe" if returns else "warning",
        f"{len(sample.reward):,} random steps, of which {ended:,} ended an episode, paid nothing but 0{trained}",
        {"random_steps": len(sample.reward), "episodes_terminated": ended, "records_of_returns": len(returns)},
        "episodes",
        "what pays is too rare to be found by chance, or its reward is not returned, as that of a goal is not where "
        "rewards come one step late, after the last",
        "look at the reward of the step that reaches the goal; if it is there, let episodes begin near it, or "
        "explore for longer with a larger ε",
    )


def of_random_play(look: Callable[[Case], Finding | Unchecked | None], case: Case) -> Finding | Unchecked | None:
    """Make a check if the environment has no table; one with a table was compared with it."""
    if case.table is not None:
        return None
    found = look(case) if case.random_play is not None else Unchecked(case.missing("random_play"))
    hidden = case.missing("table").partition(HIDES)[2]
    if not hidden or not isinstance(found, Finding) or found.name not in HIDDEN:
        return found
    summary = f"{found.summary}; walking through its states shows what is hidden: {hidden}"
    return replace(found, summary=summary, evidence={**found.evidence, "hidden": hidden})


CHECKS = tuple(
    Check(name, (), partial(of_random_play, look))
    for name, look in (
        ("termination-as-truncation", termination_as_truncation),
        ("hidden-time-limit", hidden_time_limit),
        ("observations-lag", observations_lag),
        ("rewards-late", rewards_late),
        ("no-reward-seen", no_reward_seen),
    )
)
