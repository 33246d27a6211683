"""What a report is about, and which charts it has. Verdicts, logs, comparisons and findings are computed elsewhere."""

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


# The names of all charts, as the files of --figures are called.
NAMES = (
    "value", "gap", "return", "td-error", "rates", "q-range", "policy", "q-scatter", "q-error", "visits", "coverage",
)  # fmt: skip


def charts_of(content: Content) -> dict[str, list[Chart]]:
    """Return the charts of each section; a section without any is there, empty."""
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
    """Return what the training tried, in which states and by when."""
    subject = content.subject
    counted = (None, None) if comparison is None else (int(subject.states.sum()), int(comparison.pairs.sum()))
    seen = None if subject.visits is None else visits_by_state(subject.visits, subject.states, content.grid)
    return [seen, coverage_chart(content.histories, *counted)]


def policy_chart(content: Content) -> Chart | None:
    """Return the policy map, where the environment is a grid that fits on a page."""
    grid, subject = content.grid, content.subject
    if grid is None or grid.cells > MOST_CELLS:
        return None
    figure = policy_map(grid, subject.policy, subject.states, subject.comparison)
    return Chart("policy", "Policy map", told_policy(content), figure, figure.get_figwidth() > 5)


def told_policy(content: Content) -> str:
    """Return in words how right a policy is, and where it is not."""
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
