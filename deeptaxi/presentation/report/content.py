"""What a report is about: verdicts, logs, comparisons and findings, all of them computed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deeptaxi.config import TrainConfig
from deeptaxi.evaluation.comparison import Comparison
from deeptaxi.mdp.describe import GridMap, Names
from deeptaxi.mdp.table import Bools, Ints
from deeptaxi.metrics import History


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """One run.

    Attributes:
        name: what the user called it.
        network: the network in a few words.
        config: how it was trained.
        facts: what its files say of it: "weights_digest", "deeptaxi", "versions", "preset", as far as they do.
        exact: the exact verdict, or None.
        episodes: the sampled one, or None.
        history: its log, or None.
    """

    name: str
    network: str
    config: TrainConfig
    facts: Mapping[str, Any]
    exact: Mapping[str, Any] | None
    episodes: Mapping[str, Any] | None
    history: History | None


@dataclass(frozen=True, eq=False)
class Subject:
    """The run that is looked at closely, state by state.

    Attributes:
        run: which one.
        policy: its greedy actions, `[S]`.
        comparison: of its Q values with the optimum; None without a table.
        visits: how often its training tried each pair, `[S, A]`, or None.
        diagnosis: what `diagnose --json` says of it: "findings" and "not_checked"; None where nobody looked.
        again: the command that trains it again.
        evaluate: the command that evaluates it.
        settings: its configuration as TOML.
    """

    run: ReportedRun
    policy: Ints
    comparison: Comparison | None
    visits: Ints | None
    diagnosis: Mapping[str, Any] | None
    again: str
    evaluate: str
    settings: str

    @property
    def states(self) -> Bools:
        """Where an action is chosen, as far as that is known, `[S]`."""
        if self.comparison is not None:
            return self.comparison.reachable
        if self.visits is not None and self.visits.any():
            return np.asarray(self.visits.sum(axis=1) > 0)
        return np.ones(len(self.policy), np.bool_)


@dataclass(frozen=True, eq=False)
class Content:
    """All that a report shows.

    Attributes:
        environment: what every command's JSON says of it.
        unavailable: why there is no exact verdict, or None.
        names: of states and actions.
        grid: the map, or None.
        runs: the runs, in the order in which the user named them.
        subject: the one of them that is looked at closely.
        remarks: what the reader should know about what is missing.
    """

    environment: Mapping[str, Any]
    unavailable: str | None
    names: Names
    grid: GridMap | None
    runs: Sequence[ReportedRun]
    subject: Subject
    remarks: Sequence[str] = field(default=())

    @property
    def histories(self) -> list[History]:
        """The logs that there are."""
        return [run.history for run in self.runs if run.history is not None]
