"""An episode on the screen: the environment, and the Q values as bars, with greedy and optimal actions marked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from deeptaxi.display.console import number
from deeptaxi.errors import printable
from deeptaxi.evaluation.decidability import OPTIMAL_TOLERANCE
from deeptaxi.evaluation.watching import EpisodeStep
from deeptaxi.mdp.describe import Names

BAR, PAGE = 24, 100
LEAST_SPAN = 0.05  # of the range of Q over all states: the smallest span that a full bar represents
GREEDY, TIED, OPTIMAL, HIDDEN = "▶", "=", "✓", "▒"


def step_view(step: EpisodeStep, names: Names, width: int, plain: bool = False) -> Text:
    """Format one step of an episode; parts that do not fit the width are omitted.

    Args:
        step: the step to show.
        names: names of the environment's states and actions.
        width: width of the screen, in characters.
        plain: without the colors of the environment's frame: a blank that they mark becomes ▒.
    """
    name = names.state(step.state)
    lines = [
        Text(standing(step), style="bold"),
        Text(f"State {step.state}{'' if name.startswith('state') else ': ' + name}"),
    ]
    lines += frame_lines(step.frame, name, width, plain)
    lines += [] if step.ending == "terminated" else bars(step, names, width)  # no action follows
    if step.ending is None:
        lines.append(Text(f"Takes {names.actions[step.action]}."))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def standing(step: EpisodeStep) -> str:
    """Describe the episode and step number, and the return so far."""
    text = f"Episode {step.episode}, step {step.step}: return {number(step.total)}"
    return text if step.reward is None else f"{text}, reward {number(step.reward)}"


def frame_lines(frame: Any, name: str, width: int, plain: bool) -> list[Text]:
    """Return the environment's text frame, unless it only repeats the name or does not fit."""
    if not isinstance(frame, str) or frame.strip() == name:
        return []
    shown = Text.from_ansi(frame.strip("\n"))
    lines = list(shown.split("\n"))
    if max((line.cell_len for line in lines), default=0) > width:
        return []
    return [without_colors(line) if plain else line for line in lines]


def without_colors(line: Text) -> Text:
    """Return a line without colors; a blank on a colored background, which would vanish, becomes ▒."""
    letters = list(line.plain)
    for span in line.spans:
        ground = getattr(span.style, "bgcolor", None)
        for index in range(span.start, span.end):
            if ground is not None and not ground.is_default and letters[index] in " _":
                letters[index] = HIDDEN
    return Text("".join(letters))


def bars(step: EpisodeStep, names: Names, width: int) -> list[Text]:
    """Return a line per action: its Q value, with a bar if there is room; ▶ is greedy, = tied, ✓ optimal.

    A policy without Q values has only the marks.

    The best action has the longest bar. The others' bars are shorter by their deficit, relative to the span of the
    state's actions or to `LEAST_SPAN`, so that negligible differences look negligible.
    """
    best_known = step.optimal if step.optimal is not None else np.zeros(len(names.actions), np.bool_)
    if step.q_values is None:
        return [
            Text.assemble(
                (f"{GREEDY if action == step.action else ' '} {OPTIMAL if best_known[action] else ' '} ", "green"), name
            )
            for action, name in enumerate(names.actions)
        ]
    allowed = step.q_values[np.isfinite(step.q_values)]
    best = float(allowed.max())
    span = max(best - float(allowed.min()), LEAST_SPAN * step.q_span)
    numbers = [f"{value:.3f}" if np.isfinite(value) else "not allowed" for value in step.q_values]
    first, second = max(map(len, names.actions)), max(map(len, numbers))
    room = width - first - second - 8
    lines = []
    for action, (name, shown) in enumerate(zip(names.actions, numbers, strict=True)):
        greedy, optimal = action == step.action, bool(best_known[action])
        less = best - float(step.q_values[action])
        tied = less <= OPTIMAL_TOLERANCE * (1 + abs(best))
        marks = f"{GREEDY if greedy else TIED if tied else ' '} {OPTIMAL if optimal else ' '} "
        line = Text.assemble((marks, "green"), f"{name:<{first}}  {shown:>{second}}")
        if room >= 8 and np.isfinite(step.q_values[action]):
            share = 1 - less / span if span else 1.0
            line.append("  " + "█" * max(1, round(share * min(room, BAR))), style="cyan" if greedy else "dim")
        lines.append(line)
    return lines


def ending(step: EpisodeStep) -> str:
    """Describe how an episode ended, and whether the policy was looping."""
    steps = f"{step.step:,} step{'' if step.step == 1 else 's'}"
    text = f"Episode {step.episode} {ENDINGS[step.ending or '']} after {steps}, return {number(step.total)}."
    if step.loop is None:
        return text
    before = f"state {step.state} was met at step {step.loop:,} already, and every step since was deterministic"
    return f"{text} The policy loops: {before}."


ENDINGS = {
    "terminated": "terminated",
    "truncated": "was cut by the time limit",
    "steps": "was stopped",
    "loop": "was stopped",
}


def legend(optimal: bool, q_values: bool = True) -> str:
    """Explain the marks, with and without what is `optimal`, and of a model with and without Q values."""
    return (f"{GREEDY} greedy, {TIED} tied with it" if q_values else f"{GREEDY} taken; a policy has no Q values") + (
        f", {OPTIMAL} optimal" if optimal else "; no transition table, so what is optimal is not known"
    )


class Page:
    """Prints steps one below the other, without colors: for files, pipes and screens that do not redraw."""

    waits = False

    def __init__(self, console: Console, names: Names) -> None:
        self._console = console
        self._names = names

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def show(self, step: EpisodeStep) -> None:
        """Print one step."""
        width = self._console.width if self._console.is_terminal else PAGE
        view = step_view(step, self._names, width, plain=True)
        lines = [line.rstrip() for line in view.plain.split("\n")]
        lines += ["", ending(step)] if step.ending else []
        self._console.file.write(printable("\n".join([*lines, "", ""])))
        self._console.file.flush()


class Stage:
    """Draws each step over the previous one in a terminal."""

    waits = True

    def __init__(self, console: Console, names: Names) -> None:
        self._console = console
        self._names = names
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last step on the screen."""
        self._live.stop()

    def show(self, step: EpisodeStep) -> None:
        """Draw a step over the previous one."""
        if step.reward is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        size = self._console.size
        plain = self._console.no_color
        view = step_view(step, self._names, size.width, plain)
        if len(view.split("\n")) >= size.height:
            view = step_view(replace(step, frame=None), self._names, size.width, plain)
        self._live.update(view, refresh=True)
        if step.ending is not None:
            self._live.stop()
            self._console.print(ending(step), end="\n\n", soft_wrap=True)
