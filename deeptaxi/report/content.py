"""The contents of a report. Verdicts, logs, comparisons and findings are computed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deeptaxi.config import TrainConfig
from deeptaxi.evaluation.comparison import Comparison
from deeptaxi.evaluation.recording import Recording
from deeptaxi.mdp.describe import GridMap, Names
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable
from deeptaxi.metrics import History


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """One run.

    Attributes:
        name: the name given by the user.
        network: the network in a few words.
        config: its configuration; None for a bare model.
        facts: facts from its files, if present: "weights_digest", "deeptaxi", "versions", "preset".
        exact: the exact verdict, or None.
        episodes: the sampled verdict, or None.
        history: its log, or None.
    """

    name: str
    network: str
    config: TrainConfig | None
    facts: Mapping[str, Any]
    exact: Mapping[str, Any] | None
    episodes: Mapping[str, Any] | None
    history: History | None


@dataclass(frozen=True, eq=False)
class Subject:
    """The run that is examined in detail, state by state.

    Attributes:
        run: the run.
        policy: its greedy actions, `[S]`.
        comparison: of its Q values with the optimum; None without a table.
        visits: how often its training tried each pair, `[S, A]`, or None.
        diagnosis: the "findings" and "not_checked" of `diagnose --json`; None if it was not diagnosed.
        cures: the "cures" of `diagnose --cure --json`; None if none were to be tried.
        again: the command to train it again; empty for a bare model.
        evaluate: the command to evaluate it.
        settings: its configuration as TOML; empty for a bare model.
    """

    run: ReportedRun
    policy: Ints
    comparison: Comparison | None
    visits: Ints | None
    diagnosis: Mapping[str, Any] | None
    again: str
    evaluate: str
    settings: str
    cures: Mapping[str, Any] | None = None

    @property
    def states(self) -> Bools:
        """The states where an action is chosen, as far as known, `[S]`."""
        if self.comparison is not None:
            return self.comparison.reachable
        if self.visits is not None and self.visits.any():
            return np.asarray(self.visits.sum(axis=1) > 0)
        return np.ones(len(self.policy), np.bool_)


@dataclass(frozen=True, eq=False)
class Playable:
    """What episodes are played with.

    Attributes:
        table: the transition table.
        time_limit: steps until an episode is cut, or None.
        horizon: steps that returns are summed over.
        discount: γ of the objective.
        training_discount: γ of the training, or None if unknown.
        best: an optimal policy of the objective, `[S]`: the agent's own where it loses nothing.
        value: Q* of the objective, `[S, A]`.
        recordings: of the policies "agent" and "best", by seed.
        watch: the command that plays the same episodes.
    """

    table: TransitionTable
    time_limit: int | None
    horizon: int
    discount: float
    training_discount: float | None
    best: Ints
    value: Floats
    recordings: Mapping[int, Mapping[str, Recording]]
    watch: str


@dataclass(frozen=True, eq=False)
class GroupContent:
    """Groups of runs beside each other.

    Attributes:
        comparison: the JSON of `deeptaxi compare`.
        curves: updates and values, `[2, N]`, of each run of a group, by environment and label of the group.
    """

    comparison: Mapping[str, Any]
    curves: Mapping[tuple[str, str], Sequence[Floats]]


@dataclass(frozen=True, eq=False)
class Content:
    """Everything that a report shows.

    Attributes:
        environment: its description in the JSON of every command.
        unavailable: why there is no exact verdict, or None.
        names: names of states and actions.
        grid: the map, or None.
        runs: the runs, in the user's order.
        subject: the run that is examined in detail.
        remarks: explanations of what is missing.
        groups: the comparison whose best run is examined, or None.
        playable: what episodes are played with on the page, or None.
        unplayable: why there is no player.
    """

    environment: Mapping[str, Any]
    unavailable: str | None
    names: Names
    grid: GridMap | None
    runs: Sequence[ReportedRun]
    subject: Subject
    remarks: Sequence[str] = field(default=())
    groups: GroupContent | None = None
    playable: Playable | None = None
    unplayable: str = ""

    @property
    def histories(self) -> list[History]:
        """The available logs."""
        return [run.history for run in self.runs if run.history is not None]


# The names of all charts, which are the file names of --figures.
