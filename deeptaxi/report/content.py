"""The contents of a report and its charts. Verdicts, logs, comparisons and findings are computed elsewhere."""

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
from deeptaxi.report.chart import Chart
from deeptaxi.report.curves import coverage_chart, error_by_state, learning_curves, q_scatter, visits_by_state
from deeptaxi.report.maps import MOST_CELLS, policy_map


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """One run.

    Attributes:
        name: the name given by the user.
        network: the network in a few words.
        config: its configuration.
        facts: facts from its files, if present: "weights_digest", "deeptaxi", "versions", "preset".
        exact: the exact verdict, or None.
        episodes: the sampled verdict, or None.
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
    """The run that is examined in detail, state by state.

    Attributes:
        run: the run.
        policy: its greedy actions, `[S]`.
        comparison: of its Q values with the optimum; None without a table.
        visits: how often its training tried each pair, `[S, A]`, or None.
        diagnosis: the "findings" and "not_checked" of `diagnose --json`; None if it was not diagnosed.
        again: the command to train it again.
        evaluate: the command to evaluate it.
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
        """The states where an action is chosen, as far as known, `[S]`."""
        if self.comparison is not None:
            return self.comparison.reachable
        if self.visits is not None and self.visits.any():
            return np.asarray(self.visits.sum(axis=1) > 0)
        return np.ones(len(self.policy), np.bool_)


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
        """The available logs."""
        return [run.history for run in self.runs if run.history is not None]


# The names of all charts, which are the file names of --figures.
NAMES = (
    "value", "gap", "return", "td-error", "rates", "q-range", "policy", "q-scatter", "q-error", "visits", "coverage",
)  # fmt: skip


def charts_of(content: Content) -> dict[str, list[Chart]]:
    """Return the charts of each section; a section without charts is empty."""
    subject = content.subject
    comparison, discount = subject.comparison, subject.run.config.discount
    q_range = None
    if comparison is not None and comparison.q_star is not None and comparison.pairs.any():
        star = comparison.q_star[comparison.pairs]
        q_range = np.array([star.min(), star.max()])
    compared = [] if comparison is None else [q_scatter(comparison, discount), error_by_state(comparison, content.grid)]
    found: dict[str, list[Chart | None]] = {
        "curves": [*learning_curves(content.histories, subject.run.exact, q_range)],
        "policy": [policy_chart(content)],
        "q": [*compared],
        "visits": visits_charts(content, comparison),
    }
    return {section: [chart for chart in charts if chart is not None] for section, charts in found.items()}


def visits_charts(content: Content, comparison: Comparison | None) -> list[Chart | None]:
    """Create the charts of what the training tried: by state, and over time."""
    subject = content.subject
    counted = (None, None) if comparison is None else (int(subject.states.sum()), int(comparison.pairs.sum()))
    seen = None if subject.visits is None else visits_by_state(subject.visits, subject.states, content.grid)
    return [seen, coverage_chart(content.histories, *counted)]


def policy_chart(content: Content) -> Chart | None:
    """Create the policy map if the environment is a grid that fits on a page."""
    grid, subject = content.grid, content.subject
    if grid is None or grid.cells > MOST_CELLS:
        return None
    figure = policy_map(grid, subject.policy, subject.states, subject.comparison)
    return Chart("policy", "Policy map", told_policy(content), figure, figure.get_figwidth() > 5)


def told_policy(content: Content) -> str:
    """Describe in words how good a policy is, and where it is wrong."""
    comparison = content.subject.comparison
    if comparison is None:
        return "The greedy action of every state that the training came to; which are optimal is not known."
    states, wrong = int(comparison.reachable.sum()), comparison.wrong
    matters = np.flatnonzero(wrong & comparison.met)
    text = f"The greedy action is optimal in {states - int(wrong.sum()):,} of {states:,} states"
    if not wrong.any():
        return text + "."
    text += f", and wrong in {len(matters):,} that the policy itself comes to from a start"
    off = int(wrong.sum()) - len(matters)
    text += f" and in {off:,} that it never comes to." if off else "."
    if len(matters):
        named = "; ".join(content.names.state(int(state))[:80] for state in matters[:3])
        text += f" The first: {named}."
    return text
