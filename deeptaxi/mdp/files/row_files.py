"""Tables made of rows, and logged transitions.

A file of rows with a column `probability` is a table: each row an outcome. One without is a log: each row a
transition that happened, of which `logged` estimates a table.
"""

from __future__ import annotations

import numpy as np

from deeptaxi.mdp.files.columns import Columns
from deeptaxi.mdp.files.outcomes import (
    Facts,
    Outcomes,
    Reading,
    ReadOptions,
    assemble_table,
    counted,
    listed,
    start_of,
)
from deeptaxi.mdp.logged import LoggedData, arrange, width_of
from deeptaxi.mdp.table import Bools, Ints, TableError, TransitionTable, check_memory

SPARSE = 50  # numbers per state that occurs: beyond that, they are labels of something else


def read_rows(columns: Columns, options: ReadOptions, facts: Facts | None = None) -> Reading:
    """Make a table of rows with probabilities, or estimate one from logged transitions.

    Args:
        columns: the file.
        options: what the file does not say.
        facts: start, discount and the like, where the file says them; its sizes are not read.

    Raises:
        TableError: a column is missing, a value is wrong, or the rows are not a decision process.
    """
    columns.require("state", "action", "next_state", "reward")
    if "probability" in columns.values:
        return exact_table(columns, options, facts)
    return estimated_table(columns, options)


def exact_table(columns: Columns, options: ReadOptions, facts: Facts | None) -> Reading:
    """Make a table of rows with probabilities."""
    (state, next_state), state_names = columns.labels("state", "next_state")
    (action,), action_names = columns.labels("action")
    terminated, notes = np.zeros(len(state), np.bool_), note_others(columns)
    if "terminated" in columns.values:
        terminated = columns.flags("terminated")
        notes += done_note(columns)
    else:
        notes.append("no outcome ends an episode, as there is no column 'terminated'")
    states, actions = size_of(columns, state, next_state), int(action.max()) + 1
    rewards, chances = columns.numbers("reward"), columns.numbers("probability")
    outcomes = Outcomes(state, action, next_state, chances, rewards, terminated, columns.lines)
    given = facts or Facts(0, 0)
    known = Facts(
        states, actions, given.start, given.discount, given.time_limit, state_names, action_names, notes=tuple(notes)
    )
    found = assemble_table(columns.source, outcomes, known, options)
    return Reading(found.table, f"{counted(len(state), 'row')} of outcomes", found.notes)


def size_of(columns: Columns, state: Ints, next_state: Ints) -> int:
    """Return S, the largest number and 1.

    Raises:
        TableError: the numbers are far apart, so that they are no numbering of states.
    """
    states = int(max(state.max(), next_state.max())) + 1
    met = len(np.union1d(state, next_state))
    if states > 1_000 + SPARSE * met:
        name = "state" if state.max() + 1 == states else "next_state"
        index = int(np.argmax(state if name == "state" else next_state))
        raise columns.fault(
            index,
            name,
            f"only {met:,} states occur, and are numbered from 0: renumber them, or write them as names, s{states - 1}",
        )
    return states


MOST_NAMED = 5  # columns


def note_others(columns: Columns) -> list[str]:
    """Return a note on the columns that are not read, if there are any."""
    others = columns.others
    if not others:
        return []
    names = ", ".join(f"'{name}'" for name in others[:MOST_NAMED]) + (", …" if len(others) > MOST_NAMED else "")
    return [f"the column {names} is not read" if len(others) == 1 else f"the columns {names} are not read"]


def done_note(columns: Columns) -> list[str]:
    """Return a note if a column of the old API tells the ends: it may mean time limits as well."""
    name = columns.header["terminated"]
    if name.lower().startswith("done") and "truncated" not in columns.values:
        return [f"the column '{name}' is taken for ends that are final, not for time limits"]
    return []


def estimated_table(columns: Columns, options: ReadOptions) -> Reading:
    """Estimate a table from logged transitions.

    Raises:
        TableError: a column is missing or a value wrong.
        UsageError: the start does not exist.
    """
    columns.require("terminated")
    (state, next_state), state_names = columns.labels("state", "next_state")
    (action,), action_names = columns.labels("action")
    reward, terminated = columns.numbers("reward"), columns.flags("terminated")
    if np.isinf(reward).any():
        raise columns.fault(np.argmax(np.isinf(reward)), "reward", "a reward that was logged is finite")
    episode, episode_notes = episodes_of(columns, state, next_state)
    log = LoggedData(episode, state, action, next_state, reward, terminated, float(options.prior))
    states, actions = size_of(columns, state, next_state), int(action.max()) + 1
    check_memory((states, actions, 1))
    check_memory((states, actions, width_of(log, states, actions)))
    estimator = arrange(log, states, actions)
    probability, mean_reward, start = estimator.weighted(np.ones(log.episodes))
    acted = np.zeros(states, np.bool_)
    acted[state] = True
    notes = [*note_others(columns), *episode_notes, *done_note(columns), *log_notes(log, acted, estimator.mask)]
    if options.start is not None:
        facts = Facts(states, actions, start, state_names=state_names)
        start, _ = start_of(columns.source, options.start, facts, ~acted)
        notes.append("the start is the given one, not that of the episodes")
    if options.end_absorbing:
        raise TableError(
            f"{columns.source.name}: end_absorbing is not for logged data: its column 'terminated' tells the ends"
        )
    table = TransitionTable(
        probability,
        estimator.next_state,
        mean_reward,
        estimator.terminated,
        start,
        time_limit=options.time_limit,
        discount=options.discount,
        action_mask=None if estimator.mask.all() else estimator.mask,
        state_names=state_names,
        action_names=action_names,
        logged=log,
    )
    form = f"{counted(log.transitions, 'logged transition')} in {counted(log.episodes, 'episode')}"
    return Reading(table, form, tuple(notes))


def episodes_of(columns: Columns, state: Ints, next_state: Ints) -> tuple[Ints, list[str]]:
    """Number the episodes, `[N]`: by their column, else one begins after an end, or where states do not follow."""
    if "episode" in columns.values:
        texts = [str(value) for value in columns.values["episode"]]
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64), []
    ends = columns.flags("terminated")
    if "truncated" in columns.values:
        ends = ends | columns.flags("truncated")
    begins = np.ones(len(state), np.bool_)
    begins[1:] = ends[:-1] | (state[1:] != next_state[:-1])
    said = (
        "there is no column 'episode': one begins after an end, or where a state is not the next one of the row before"
    )
    return np.asarray(np.cumsum(begins) - 1, np.int64), [said]


def log_notes(log: LoggedData, acted: Bools, mask: Bools) -> list[str]:
    """Tell what the log leaves unknown."""
    never = np.setdiff1d(np.arange(mask.shape[1]), log.action)
    notes = [f"action {action} never occurs: nothing is known of it, and it may not be taken" for action in never]
    unseen = int((~mask).sum())
    if unseen:
        notes.append(
            f"{occurring(unseen, 'pair of state and action', 'never')}, and may not be taken: "
            "nothing is known of what follows"
        )
    reached = np.zeros(len(acted), np.bool_)
    reached[log.next_state[~log.terminated]] = True
    cut = reached & ~acted
    if cut.any():
        notes.append(
            f"{counted(int(cut.sum()), 'state')} ({listed(cut)}) {'is' if cut.sum() == 1 else 'are'} reached, but no "
            "action was logged there: what follows is unknown, and counts as nothing"
        )
    met = acted.copy()
    met[log.next_state] = True
    if not met.all():
        count = int((~met).sum())
        notes.append(f"{occurring(count, 'state number', 'never')} ({listed(~met)})")
    once = pairs_of_one_episode(log, mask.shape[1])
    if once:
        notes.append(f"{occurring(once, 'pair of state and action')} in one episode only")
    return notes


def occurring(count: int, noun: str, how: str = "") -> str:
    """Format a count with its noun and verb: ``1 pair of state and action never occurs``."""
    first, space, rest = noun.partition(" of ")
    verb = f"{how} occur{'s' if count == 1 else ''}".strip()
    return f"{counted(count, first)}{space}{rest} {verb}"


def pairs_of_one_episode(log: LoggedData, actions: int) -> int:
    """Count the pairs of state and action that a single episode has: no resampling shows how sure they are."""
    pair = log.state * actions + log.action
    both = np.unique(np.stack([pair, log.episode]), axis=1)[0]
    return int((np.unique(both, return_counts=True)[1] == 1).sum())
