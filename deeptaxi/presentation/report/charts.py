"""Which charts a report has, section by section."""

from __future__ import annotations

import numpy as np

from deeptaxi.evaluation.comparison import Comparison
from deeptaxi.presentation.report.chart import Chart
from deeptaxi.presentation.report.content import Content
from deeptaxi.presentation.report.curves import learning_curves
from deeptaxi.presentation.report.maps import MOST_CELLS, policy_map
from deeptaxi.presentation.report.states import coverage_chart, error_by_state, q_scatter, visits_by_state

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
