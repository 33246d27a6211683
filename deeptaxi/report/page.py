"""The page: one HTML file with its styles, figures and player inside, which makes no network requests.

Its content security policy allows one script, the player's, by its digest, and no request.
Names of runs, environments, states and findings come from untrusted files: all of them are escaped.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from deeptaxi.arguments import show
from deeptaxi.display.console import number
from deeptaxi.display.group_tables import comparison_tables
from deeptaxi.display.tables import SOURCES, merge_findings, unknown
from deeptaxi.evaluation.comparison import Comparison, worst_states
from deeptaxi.mdp.describe import GridMap, Names
from deeptaxi.mdp.table import Ints
from deeptaxi.metrics import to_json
from deeptaxi.report import chart
from deeptaxi.report.chart import Chart
from deeptaxi.report.content import Content, GroupContent, ReportedRun
from deeptaxi.report.curves import coverage_chart, error_by_state, learning_curves, q_scatter, visits_by_state
from deeptaxi.report.group_charts import group_charts
from deeptaxi.report.maps import MOST_CELLS, policy_map
from deeptaxi.report.play_data import play_data, to_island
from deeptaxi.storage.model_card import describe_interval

LIMIT = 400_000  # bytes
LONGEST_TEXT, LONGEST_SETTINGS = 160, 8_000  # characters
MOST_RUNS, MOST_STATES, FEW_STATES = 100, 25, 10
MOST_GROUPS = 60
GROUPS = "groups"  # a section that only a comparison has
PLAY = "play"
PLAYER = ("problem", "drawing", "panel", "controls")  # the parts of its script, in this order
TITLES = {
    GROUPS: "Comparison",
    "verdict": "Verdict",
    "curves": "How it learned",
    "policy": "What it does",
    PLAY: "Play it",
    "q": "Q against Q*",
    "visits": "What it tried",
    "findings": "Findings",
    "configuration": "Configuration",
    "reproduce": "How to reproduce",
}


@dataclass(frozen=True, eq=False)
class Page:
    """A report.

    Attributes:
        html: the file.
        charts: all charts, including those omitted to keep the page small.
        sections: the names of the nonempty sections.
    """

    html: str
    charts: Sequence[Chart]
    sections: Sequence[str]


def page(content: Content, limit: int = LIMIT) -> Page:
    """Render the page; while it has `limit` bytes or more, drop the player, then the largest chart."""
    with chart.apply_style():
        charts = charts_of(content)
        pictures = {chart.name: chart.inline() for found in charts.values() for chart in found}
    facts = words(content)
    data = play_data(content)
    island = None if data is None else to_island(data)
    template = templates().get_template("page.html.jinja")
    script = player_script()
    dropped: set[str] = set()
    while True:
        player = place_player(content, island, script)
        html = template.render(**facts, **place_charts(charts, pictures, dropped), player=player)
        left = pictures.keys() - dropped
        if len(html.encode()) < limit or not (left or island):
            break
        if island:
            island = ""
            continue
        dropped.add(max(left, key=lambda name: len(pictures[name])))
    shown = sections(content, charts, bool(island))
    return Page(html, [chart for found in charts.values() for chart in found], shown)


def player_script() -> str:
    """Return the player's script, without the comments' lines and the indentation, which a page need not carry."""
    folder = files("deeptaxi.report") / "templates" / "player"
    lines = [line.strip() for part in PLAYER for line in (folder / f"{part}.js").read_text("utf-8").splitlines()]
    kept = [line for line in lines if line and not line.startswith("//")]
    return "\n".join(['"use strict";', "(() => {", *kept, "})();"])


def place_player(content: Content, island: str | None, script: str) -> dict[str, Any] | None:
    """Return the player for the template: its data and its script, or why there is none.

    Args:
        content: the content of the page.
        island: the data as JSON; empty if it was dropped, None if there is none.
        script: the script.
    """
    if not island:
        too_large = "the player is left out to keep this page small: `deeptaxi watch` plays episodes"
        why = content.unplayable if island is None else too_large
        return {"data": None, "why": why} if why else None
    return {
        "data": Markup(island),  # noqa: S704  # JSON in which no text can end the element
        "script": Markup(script),  # noqa: S704  # our own file
        "digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "why": content.unplayable,
    }


def templates() -> jinja2.Environment:
    """Create the template environment."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deeptaxi.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=typeset,
        count=lambda value: f"{value:,}",
        json=to_json,
        brief=brief,
        sentence=sentence,
        argument=argument,
    )
    return environment


def typeset(value: float | None, digits: int = 4) -> str:
    """Format a number for people, with a true minus sign."""
    return number(value, digits).replace("-", "−")


def signs(text: str) -> str:
    """Put true minus signs before the numbers in a sentence."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def sentence(text: str) -> str:
    """Format a text as a sentence, with a period, and a capital letter unless it begins with a name, symbol or code."""
    text = brief(text, 2 * LONGEST_TEXT)
    first = text[:1].upper() if re.match(r"[a-z]+(?=[ ,;]|[.…]?$)", text) else text[:1]
    return first + text[1:] + ("" if text.endswith((".", "…", "!", "?")) else ".")


def brief(value: Any, longest: int = LONGEST_TEXT) -> str:
    """Format a text, or a value as JSON, at limited length."""
    if isinstance(value, float):
        return number(value)
    text = value if isinstance(value, str) else to_json(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def argument(value: Any) -> str:
    """Format an environment argument for ``--env-arg``, at limited length."""
    return brief(show(value))


def place_charts(charts: Mapping[str, list[Chart]], pictures: Mapping[str, str], dropped: set[str]) -> dict[str, Any]:
    """Return the charts of each section for the template, and the titles of those omitted."""
    shown = {
        section: [
            {
                "name": chart.name,
                "title": chart.title,
                "text": signs(chart.text),
                "wide": chart.wide,
                "picture": Markup(pictures[chart.name]),  # noqa: S704  # our own SVG, its texts escaped as XML
            }
            for chart in found
            if chart.name not in dropped
        ]
        for section, found in charts.items()
    }
    left_out = {section: [chart.title for chart in found if chart.name in dropped] for section, found in charts.items()}
    return {"charts": shown, "dropped": left_out}


def sections(content: Content, charts: Mapping[str, list[Chart]], played: bool) -> list[str]:
    """Return the nonempty sections."""
    empty = {section for section, found in charts.items() if not found}
    if content.subject.comparison is not None:
        empty -= {"policy"}
    if not played:
        empty |= {PLAY}
    if content.subject.diagnosis is None:
        empty |= {"findings"}
    if not content.subject.settings:
        empty |= {"configuration"}
    empty = empty | {GROUPS} if content.groups is None else empty - {GROUPS}
    return [name for name in TITLES if name not in empty]


def words(content: Content) -> dict[str, Any]:
    """Return all text of the template, without the charts."""
    subject, run = content.subject, content.subject.run
    return {
        "title": title_of(content),
        "environment": content.environment,
        "unavailable": content.unavailable,
        "verdict": headline(content),
        "remarks": content.remarks,
        "groups": None if content.groups is None else group_words(content.groups),
        "contents": [(name, title) for name, title in TITLES.items() if name != GROUPS or content.groups is not None],
        "runs": content.runs,
        "shown_runs": [run_words(shown) for shown in content.runs[:MOST_RUNS]],
        "subject": run_words(run),
        "chosen": "the farthest from the optimum" if run.exact else "the one with the lowest return",
        "exact": run.exact,
        "estimated": describe_interval(run.exact["estimated"]) if run.exact and run.exact.get("estimated") else "",
        "episodes": run.episodes,
        "worst_start": name_of_state(content, run.exact["worst_start"]["state"]) if run.exact else "",
        "curve_runs": len(content.histories),
        "no_curves": "" if content.histories else no_log(run),
        "policy_text": describe_policy(content),
        "any_wrong": subject.comparison is not None and bool(subject.comparison.wrong.any()),
        "states": state_rows(content),
        "diagnosis": subject.diagnosis,
        "cures": None if subject.cures is None else cure_words(subject.cures),
        "not_checked": merge_findings(subject.diagnosis) if subject.diagnosis else [],
        "sources": SOURCES,
        "settings": subject.settings[:LONGEST_SETTINGS],
        "again": subject.again,
        "evaluate": subject.evaluate,
        "provenance": provenance(run),
    }


def title_of(content: Content) -> str:
    """Return the environment that the page is about; of groups on several, all of them."""
    if content.groups is None:
        return brief(content.environment["id"])
    places = environments_of(content.groups)
    return brief(content.environment["id"] if len(places) == 1 else ", ".join(places))


def environments_of(groups: GroupContent) -> list[str]:
    """Return the environments of groups, each once."""
    return list(dict.fromkeys(group["environment"] for group in groups.comparison["groups"]))


def group_words(groups: GroupContent) -> dict[str, Any]:
    """Return the template's text about groups of runs."""
    found = groups.comparison
    return {
        "verdicts": found["verdict"].split("\n"),
        "count": sum(len(one["runs"]) for one in found["groups"]),
        "groups": len(found["groups"]),
        "environments": environments_of(groups),
        "tables": [
            {
                "title": signs(part.title),
                "names": part.names,
                "rows": [[signs(item) for item in row] for row in part.rows[:MOST_GROUPS]],
                "more": len(part.rows) - MOST_GROUPS if len(part.rows) > MOST_GROUPS else 0,
            }
            for part in comparison_tables(found)
        ],
        "left_out": found["left_out"][:MOST_RUNS],
    }


def cure_words(cures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template's text about the cures that were tried."""
    usual = "the usual settings"
    return {
        "unavailable": cures["unavailable"],
        "summary": f"Tried in {cures['seconds']:.0f} of {cures['budget']:g} seconds, each by a training of its own"
        + ("; interrupted." if cures["interrupted"] else "."),
        "tried": [
            {
                "options": one["cure"] or usual,
                "finding": one["finding"],
                "cured": one["cured"],
                "reached": signs(one["reached"]),
                "updates": one["updates"],
                "planned": one["planned"],
                "seconds": one["seconds"],
            }
            for one in cures["tried"]
        ],
        "not_tried": [{"options": one["cure"] or usual, "why": one["why"]} for one in cures["not_tried"]],
        "best": cures["best"],
    }


def no_log(run: ReportedRun) -> str:
    """Say why there is no log."""
    if run.config is None:
        return "a bare model has no log"
    return "the training left no log, or it is not where the run says it is"


def headline(content: Content) -> dict[str, str]:
    """Return the verdict in a few words, and as a sentence."""
    exact = content.subject.run.exact
    if exact is None:
        why = f"There is no exact optimum: {content.unavailable}"
        return {"kind": "open", "headline": "No exact verdict", "sentence": f"{why}. Sampled episodes instead:"}
    if len(content.runs) > 1:
        good = sum(bool(run.exact and run.exact["optimal"]) for run in content.runs)
        kind = "good" if good == len(content.runs) else "bad"
        sentence = "An optimal run plays every start state as well as possible."
        return {"kind": kind, "headline": f"{good} of {len(content.runs)} runs are optimal", "sentence": sentence}
    resets = exact.get("starts_estimated_from_resets")
    seen = f" seen in {resets:,} resets" if resets else ""
    starts = f"{exact['optimal_start_states']:,} of {exact['start_states']:,} start states{seen} are played optimally"
    if exact["optimal"] is None:
        return {"kind": "open", "headline": "Cannot be determined", "sentence": f"It {unknown(exact)}."}
    if exact.get("all_policies_equal"):
        return {"kind": "open", "headline": "Every policy is optimal", "sentence": f"{exact['all_policies_equal']}."}
    if exact["optimal"]:
        return {"kind": "good", "headline": "Optimal", "sentence": f"{starts}. No policy has a higher value."}
    worst = exact["worst_start"]
    name = name_of_state(content, worst["state"])
    state = f"state {worst['state']}" + (f" ({name})" if name else "")
    sentence = f"{starts}. The worst, {state}, loses {number(worst['value_gap'])} of its value."
    return {"kind": "bad", "headline": "Not optimal", "sentence": sentence}


def name_of_state(content: Content, state: int) -> str:
    """Return the name of a state, or an empty string if it has only its number."""
    name = content.names.state(state)
    return "" if name == f"state {state}" else brief(name)


def run_words(run: ReportedRun) -> dict[str, Any]:
    """Return the template's text about a run."""
    return {
        "name": brief(run.name),
        "description": run.network,
        "seed": "–" if run.config is None else run.config.seed,
        "preset": brief(run.facts.get("preset", "")),
        "exact": run.exact,
        "episodes": run.episodes,
        "finished": run.history.finished if run.history else None,
    }


def state_rows(content: Content) -> list[dict[str, Any]]:
    """Return the worst states: few if a map shows all, none if nothing is known."""
    comparison, visits, names = content.subject.comparison, content.subject.visits, content.names
    if comparison is None:
        return []
    error, wrong = comparison.error, comparison.wrong
    if content.grid is not None and not wrong.any():
        return []
    return [
        {
            "number": state,
            "name": brief(names.state(state)),
            "takes": brief(names.actions[comparison.policy[state]]),
            "optimal": brief(", ".join(names.actions[action] for action in np.flatnonzero(comparison.optimal[state]))),
            "mark": "✗" if wrong[state] else "✓",
            "loss": float(comparison.loss[state]),
            "error": None if error is None else float(error[state]),
            "visits": None if visits is None else int(visits[state].sum()),
        }
        for state in worst_states(comparison, MOST_STATES if content.grid is None else FEW_STATES).tolist()
    ]


def provenance(run: ReportedRun) -> list[tuple[str, str]]:
    """Return what identifies a run."""
    known = {
        "Run": run.name,
        "Weights digest": run.facts.get("weights_digest"),
        "Log": str(run.history.path) if run.history and run.history.path else None,
        "Versions": run.facts.get("versions")
        or (f"deeptaxi {run.facts['deeptaxi']}" if "deeptaxi" in run.facts else None),
    }
    return [(key, brief(value)) for key, value in known.items() if value]


NAMES = (
    "value", "gap", "return", "td-error", "rates", "q-range", "policy", "q-scatter", "q-error", "visits", "coverage",
)  # fmt: skip


def charts_of(content: Content) -> dict[str, list[Chart]]:
    """Return the charts of each section; a section without charts is empty."""
    subject = content.subject
    comparison, config = subject.comparison, subject.run.config
    q_range = None
    if comparison is not None and comparison.q_star is not None and comparison.pairs.any():
        star = comparison.q_star[comparison.pairs]
        q_range = np.array([star.min(), star.max()])
    compared: list[Chart | None] = []
    if comparison is not None and config is not None:
        compared = [q_scatter(comparison, config.discount), error_by_state(comparison, content.grid)]
    found: dict[str, list[Chart | None]] = {
        "curves": [*learning_curves(content.histories, subject.run.exact, q_range)],
        "policy": [policy_chart(content)],
        "q": [*compared],
        "visits": visits_charts(content, comparison),
    }
    if content.groups is not None:
        found[GROUPS] = [*group_charts(content.groups)]
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
    text = " ".join([describe_policy(content), *describe_apart(grid, subject.policy, content.names)])
    return Chart("policy", "Policy map", text, figure, figure.get_figwidth() > 5)


def describe_apart(grid: GridMap, policy: Ints, names: Names) -> list[str]:
    """Describe in words what the policy does in the states that are not on the map."""
    sentences = []
    for shared, states in list(grid.apart.items())[:FEW_STATES]:
        taken, counts = np.unique(policy[states], return_counts=True)
        each = [f"{names.actions[action]} in {count}" for action, count in zip(taken, counts, strict=True)]
        does = f"always {names.actions[taken[0]]}" if len(taken) == 1 else ", ".join(each)
        whose = f"{len(states)} state{'s' * (len(states) > 1)} of {shared}, such as {names.state(int(states[0]))[:80]}"
        sentences.append(f"Not on the map: {whose}; there {does}.")
    if len(grid.apart) > FEW_STATES:
        sentences.append(f"Nor {sum(map(len, list(grid.apart.values())[FEW_STATES:])):,} others.")
    return sentences


def describe_policy(content: Content) -> str:
    """Describe in words how good a policy is, and where it is wrong."""
    comparison = content.subject.comparison
    if comparison is None:
        return "The greedy action of every state that the training reached; which are optimal is not known."
    states, wrong = int(comparison.reachable.sum()), comparison.wrong
    matters = np.flatnonzero(wrong & comparison.met)
    text = f"The greedy action is optimal in {states - int(wrong.sum()):,} of {states:,} states"
    if not wrong.any():
        return text + "."
    text += f", and wrong in {len(matters):,} that the policy itself reaches from a start"
    off = int(wrong.sum()) - len(matters)
    text += f" and in {off:,} that it never reaches." if off else "."
    if len(matters):
        named = "; ".join(content.names.state(int(state))[:80] for state in matters[:3])
        text += f" The first: {named}."
    return text
