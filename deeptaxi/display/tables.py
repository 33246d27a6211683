"""Tables printed by commands: verdicts, findings, exports and agents. The JSON's numbers, with their meaning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from deeptaxi.arguments import words
from deeptaxi.display import console
from deeptaxi.display.console import columns, facts, number
from deeptaxi.errors import printable
from deeptaxi.metrics import describe_estimate
from deeptaxi.storage.model_card import describe_environment, describe_shared_state

STYLES = {"severe": "bold red", "warning": "yellow", "note": "dim"}
SOURCES = {
    "exact": "from the transition table",
    "log": "from the log",
    "episodes": "from sampled episodes",
    "network": "from the network",
}


def findings_page(
    title: str, diagnosis: Mapping[str, Any], optimal: bool | None = None, cures: Sequence[str] | None = None
) -> Group:
    """Format all findings, what cures reached, then what could not be checked.

    Args:
        title: what was examined.
        diagnosis: `Diagnosis.to_dict`.
        optimal: the exact verdict, or None.
        cures: what cures reached, a heading and lines; None if none were tried.
    """
    verdict = {True: ": its policy is optimal", False: ": its policy is not optimal", None: ""}[optimal]
    estimated = diagnosis.get("estimated")
    where = " in the estimated table" if estimated and optimal is not None else ""
    parts: list[Any] = [Text(f"{title}{verdict}{where}", style="bold")]
    if estimated:
        parts.append(Text(f"The table is {describe_estimate(estimated)}: so is what is said of it.", style="yellow"))
    for finding in diagnosis["findings"]:
        parts += finding_lines(finding)
    if not diagnosis["findings"]:
        parts.append(Text("No problems found.", style="green"))
    if cures:
        parts += [Text(), Text(cures[0], style="bold")]
        parts += [Padding(Text(line), (0, 0, 0, 2), expand=False) for line in cures[1:]]
    if diagnosis["not_checked"]:
        parts += [Text(), Text("Not checked", style="dim")]
        parts += [
            Padding(Text(f"{item['name']}: {item['why']}", style="dim"), (0, 0, 0, 2), expand=False)
            for item in merge_findings(diagnosis)
        ]
    return Group(*parts)


def merge_findings(diagnosis: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what could not be checked, merging names with the same reason."""
    by_reason: dict[str, list[str]] = {}
    for item in diagnosis["not_checked"]:
        by_reason.setdefault(item["why"], []).append(item["name"])
    return [{"name": ", ".join(names), "why": why} for why, names in by_reason.items()]


def finding_lines(finding: Mapping[str, Any]) -> list[Any]:
    """Format a finding: its name, the evidence, the likely cause, and what to type."""
    head = Text.assemble((f"{finding['severity']:<8}", STYLES[finding["severity"]]), (finding["name"], "bold"))
    rows = {
        "seen": f"{finding['summary']} ({SOURCES[finding['source']]})",
        "cause": finding["cause"],
        "cure": finding["cure"],
    }
    lines = [Text.assemble((f"{key:<7}", "dim"), value) for key, value in rows.items()]
    return [Text(), head, *(Padding(line, (0, 0, 0, 8), expand=False) for line in lines)]


def show(exports: Sequence[Any], folder: Path | None) -> None:
    """Print the `exports.exports.Export` results: several as a table, one as a sentence.

    Args:
        exports: what was written and what was skipped.
        folder: the folder that holds them all; None for a single one.
    """
    screen = console.out()
    if folder is None:
        (one,) = exports
        screen.print(
            f"Wrote {one.path} ({one.format}); max difference {one.max_difference:g} over all {one.states:,} states, "
            f"{actions(one)}; out-of-range states: {one.outside}",
            soft_wrap=True,
        )
        return
    rows = [
        (one.format, Path(one.path).name, f"{one.max_difference:g}", actions(one), one.outside)
        for one in exports
        if one.path is not None
    ]
    console.print_wide(
        console.columns(None, ("format", "file", "max difference", "actions", "out-of-range state"), rows)
    )
    total = f"Wrote {len(rows)} formats to {folder}, each read back and compared on all"
    screen.print(f"{total} {exports[0].states:,} states", soft_wrap=True)
    for one in exports:
        if one.skipped is not None:
            screen.print(f"Skipped {one.format}: {one.skipped}", style="yellow", soft_wrap=True)
        if one.failed is not None:
            screen.print(f"Failed {one.format}: {one.failed}", style="red", soft_wrap=True)


def actions(one: Any) -> str:
    """Describe whether the actions match the model's."""
    if not one.differing_actions:
        return "the same actions"
    return f"different actions in {one.differing_actions:,} states, all ties"


def verdict_table(
    title: str, exact: Mapping[str, Any] | None, unavailable: str | None, episodes: Mapping[str, Any] | None = None
) -> Table:
    """Create a table of the exact verdict, or why it is missing, and the sampled one."""
    return facts(title, {**exact_rows(exact, unavailable), **(episode_rows(episodes) if episodes else {})})


def exact_rows(exact: Mapping[str, Any] | None, unavailable: str | None) -> dict[str, str | Text]:
    """Return the rows of the exact verdict, or why it is missing."""
    return verdict_rows(exact) if exact else {"Exact verdict": Text(f"none: {unavailable}", style="yellow")}


def verdict_rows(exact: Mapping[str, Any]) -> dict[str, str | Text]:
    """Return the rows of the exact verdict."""
    played, all_starts, worst = exact["optimal_start_states"], exact["start_states"], exact["worst_start"]
    resets = exact.get("starts_estimated_from_resets")
    seen = f" seen in {resets:,} resets" if resets else ""
    optimal = Text(f"yes: {played} of {all_starts} start states{seen} are played optimally", style="green")
    if exact["optimal"] is None:
        optimal = Text(unknown(exact), style="yellow")
    elif exact.get("all_policies_equal"):
        optimal = Text(f"yes, but {exact['all_policies_equal']}", style="yellow")
    elif not exact["optimal"]:
        lost = f"the worst, state {worst['state']}, loses {number(worst['value_gap'])}"
        optimal = Text(f"no: {played} of {all_starts} start states{seen}; {lost}", style="yellow")
    rows: dict[str, str | Text] = {
        "Optimal": optimal,
        "Return": f"{number(exact['return'])} of {number(exact['optimal_return'])} at best"
        f" in {exact['horizon']:,} steps (gap {number(exact['gap'])})",
        "Value": f"{number(-math.inf if exact['value'] is None else exact['value'])}"
        f" of {number(exact['optimal_value'])} at discount {exact['discount']}"
        f" (gap {number(exact['value_gap'])})",
        "Normalized score": f"{number(exact['normalized_score'])} (random policy 0, optimum 1)",
    }
    if exact["mean_episode_length"] is not None:  # else the training was interrupted before it was known
        rows["Episodes end"] = (
            f"with probability {probability(exact['termination_probability'])},"
            f" after {number(exact['mean_episode_length'], 2)} steps on average"
        )
    if exact.get("estimated"):
        optimal.append(", in the estimated table")
        rows |= estimate_rows(exact["estimated"])
    if exact["q_error"]:
        error = exact["q_error"]
        rows["Q error"] = (
            f"max {number(error['max'])}, mean {number(error['mean'])}, bias {number(error['bias'])}"
            f" against Q* at discount {error['discount']}"
        )
    if resets:
        spread = [
            f"{name} ± {exact[key]:.2g}"
            for name, key in (("return", "return_uncertainty"), ("value", "value_uncertainty"))
            if exact.get(key)
        ]
        within = f": {', '.join(spread)} (95 %)" if spread else ""
        rows["Start states"] = f"estimated from {resets:,} resets{within}"
    return rows


def estimate_rows(estimated: Mapping[str, Any]) -> dict[str, str | Text]:
    """Return the rows on what a table is estimated from, and how sure its verdict is."""
    text = describe_estimate(estimated)
    rows: dict[str, str | Text] = {"Table": Text(text, style="yellow")}
    found, best, share = (estimated.get(key) for key in ("value_interval", "optimal_value_interval", "optimal_in"))
    if found and best:
        optimal = f"; this policy is optimal in {share:.0%} of them" if share is not None else ""
        rows["95 % interval"] = (
            f"value {number(found[0])} to {number(found[1])}, optimal value {number(best[0])} to {number(best[1])},"
            f" from {estimated['resamples']:,} resamples of the episodes{optimal}"
        )
        if estimated.get("optimism") is not None:
            rows["Optimism"] = (
                f"{number(estimated['optimism'])}: by so much a policy that is chosen by such a log looks better"
            )
    elif estimated.get("interval_unavailable"):
        rows["95 % interval"] = f"none: {estimated['interval_unavailable']}"
    return rows


def read_rows_of(environment: Mapping[str, Any]) -> dict[str, str | Text]:
    """Return the row on how a file of others was read; empty for others."""
    notes = environment.get("read_as")
    return {"Read as": printable("; ".join(notes))} if notes else {}


def unknown(exact: Mapping[str, Any]) -> str:
    """Explain why optimality is unknown, and how to determine it."""
    why = exact["optimal_unknown"]
    cure = f"; --objective-discount {why['telling_discount']:g} can tell" if why["telling_discount"] else ""
    return f"cannot be determined at discount {exact['discount']:g}: {why['reason']}{cure}"


def probability(value: float) -> str:
    """Format a probability; one below 1 never shows as 1."""
    text = number(value)
    return f"1 − {1 - value:.1g}" if text == "1" and value < 1 else text


def mean(value: float, solution: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Format a mean over the starts and its error, from rounding or from estimated starts."""
    bound, spread = solution[f"{name}_bound"], solution[f"{name}_uncertainty"]
    if bound is not None:
        of = " on the estimate" if solution.get("estimated") else ""
        return number(0.0 if abs(value) <= bound else value), f"± {bound:.1e}{of}"
    starts = f"starts estimated from {solution['starts_estimated_from_resets']:,} resets"
    return number(value), starts if spread is None else f"± {spread:.2g} at 95 %: {starts}"


def episode_rows(episodes: Mapping[str, Any]) -> dict[str, str]:
    """Return the rows of the sampled verdict."""
    low, high = episodes["ci95"]
    # Identical samples say nothing about the error; a zero-width interval would claim certainty.
    interval = "all the same" if low == high else f"95 % interval {number(low)} to {number(high)}"
    count, asked = episodes["count"], episodes["asked"]
    title = f"Episodes: {count:,}" if count == asked else f"Episodes: {count:,} of {asked:,}"
    rows = {
        title: f"mean return {number(episodes['mean_return'])}"
        f" ({interval}), mean length {number(episodes['mean_length'], 2)},"
        f" {episodes['terminated_fraction']:.1%} terminated"
    }
    if episodes["endless"]:
        rows["Never end"] = (
            f"{episodes['endless']:,} episodes: the policy never ends one from state {episodes['endless_state']} on;"
            " they were cut there, and the rest of their return was drawn from the transition table"
        )
    if episodes["cut"]:
        rows["Cut"] = (
            f"{episodes['cut']:,} episodes after {episodes['cut_steps']:,} steps: the rest of their return is missing"
        )
    if episodes.get("steps_in_shared_state"):
        rows["Unseen"] = describe_shared_state(episodes)
    if count < asked:
        rows["Not played"] = f"{asked - count:,} episodes: those that were played took too many steps"
    return rows


def sampled_rows(summary: Mapping[str, Any]) -> dict[str, str | Text]:
    """Return the final sampled results, or why there are none; empty if the verdict is exact."""
    if summary["episodes"]:
        return {**episode_rows(summary["episodes"])}
    why = summary["episodes_unavailable"]
    return {"Episodes": Text(f"none: {why}", style="yellow")} if why else {}


def training_table(title: str, summary: Mapping[str, Any], page: str | None = None) -> Table:
    """Create the final table of a training: the verdict, how it was obtained, and where it is saved.

    The last line is `page`, the command that writes the page about it.
    """
    return facts(
        title,
        {
            **read_rows_of(summary["environment"]),
            **exact_rows(summary["exact"], summary["exact_unavailable"]),
            **discount_row(summary),
            **sampled_rows(summary),
            "Training": f"{summary['updates']:,} updates, {summary['environment_steps']:,} environment steps,"
            f" {summary['train_seconds']:.1f} s (and {summary['compile_seconds']:.1f} s to compile);"
            f" stopped: {summary['stopped']}",
            "Weights digest": summary["weights_digest"],
            "Saved in": summary["run"] if summary["log"] is None else f"{summary['run']}   (log: {summary['log']})",
            **(
                {"Log": Text(f"incomplete: {summary['log_unavailable']}", "yellow")}
                if summary["log_unavailable"]
                else {}
            ),
            **({"See and play": page} if page else {}),
        },
    )


def discount_row(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the discounts of the training and of the verdict if they differ."""
    learned, objective = summary["discount"], summary["objective_discount"]
    return {} if learned == objective else {"Discount": f"learned at {learned:g}, evaluated at {objective:g}"}


def optimum_table(title: str, solution: Mapping[str, Any], environment: Mapping[str, Any] | None = None) -> Table:
    """Create the table of an environment's exact optimum; `environment` is its `describe` mapping."""
    nothing = solution["all_policies_equal"]
    (best, how_far), (value, how_far_value) = (
        mean(solution["optimal_return"], solution, "return"),
        mean(solution["optimal_value"], solution, "value"),
    )
    resets = solution["starts_estimated_from_resets"]
    return facts(
        title,
        {
            **read_rows_of(environment or {}),
            "Optimal return": f"{best} in {solution['horizon']:,} steps ({how_far})",
            "Optimal value": f"{value} at discount {solution['discount']}"
            f" ({how_far_value}, {solution['iterations']:,} iterations)",
            "Random policy": f"value {number(solution['random_value'])}",
            "Optimal policy": f"return {number(solution['policy_return'])}; episodes end with probability"
            f" {probability(solution['termination_probability'])},"
            f" after {number(solution['mean_episode_length'], 2)} steps",
            "Start states": f"{solution['start_states']:,}"
            + (f" seen in {resets:,} resets; all means are over these" if resets else ""),
            **(estimate_rows(solution["estimated"]) if solution.get("estimated") else {}),
            **({"Note": Text(nothing, style="yellow")} if nothing else {}),
        },
    )


def conversion_table(found: Mapping[str, Any]) -> Table:
    """Create the table of what `convert` read and wrote."""
    start, actions = found["start_states"], found["actions"]
    rows: dict[str, str | Text] = {
        "Read as": found["form"] or "a table that is deeptaxi's already",
        "Size": f"{found['states']:,} state{'s' * (found['states'] != 1)}, {actions:,} action{'s' * (actions != 1)},"
        f" {found['outcomes']:,} outcome{'s' * (found['outcomes'] != 1)}"
        f" (at most {found['most_outcomes']:,} of a pair), {found['terminating_outcomes']:,} of which end the episode",
        "Start": f"{start:,} state{'s' * (start != 1)}",
        "Mask": f"{found['forbidden_pairs']:,} of {found['states'] * actions:,} pairs may not be taken"
        if found["forbidden_pairs"]
        else "every action may be taken",
        "Table": "exact" if found["exact"] else Text(describe_estimate(found["estimated"]), style="yellow"),
    }
    for name, key in (("Discount", "discount"), ("Time limit", "time_limit")):
        if found[key] is not None:
            rows[name] = f"{found[key]:g}"
    for count, note in enumerate(found["notes"], 1):
        rows["Note" if count == 1 else f"Note {count}"] = printable(note)
    if found["path"]:
        rows["Written to"] = found["path"]
    return facts(printable(found["source"]), rows)


def discovery_table(title: str, found: Mapping[str, Any]) -> Table:
    """Create the table of a discovered transition table: its size, and the walk that found it."""
    limit = f", time limit {found['time_limit']:,}" if found["time_limit"] else ""
    ignored = found["ignored_attributes"]
    return facts(
        title,
        {
            "Table": f"discovered: {found['states']:,} states, exact",
            "Size": f"{found['table_states']:,} state numbers, {found['actions']:,} actions, "
            f"{found['most_outcomes']:,} outcome{'s' * (found['most_outcomes'] != 1)} at most{limit}",
            "Start states": f"{found['start_states']:,}",
            "Walk": f"{found['snapshots']:,} snapshots, {found['branches']:,} branches, {found['seconds']:.1f} s",
            **({"Left out": f"{', '.join(ignored)}: changing nothing else"} if ignored else {}),
            **({"Note": Text(found["hidden"], style="yellow")} if found["hidden"] else {}),
        },
    )


def compliance_page(found: Mapping[str, Any]) -> Group:
    """Format what `check` found: each fault with its place, then what passed, then notes.

    Args:
        found: `Checked.to_dict`.
    """
    count = len(found["faults"])
    verdict = f"{count} fault{'s' * (count != 1)}" if count else "no faults"
    parts: list[Any] = [Text(f"{found['environment']}: {verdict}", style="bold")]
    for fault in found["faults"]:
        often = f" ({fault['times']:,} times, first at step {fault['step']:,})" if fault["times"] > 1 else ""
        parts.append(marked("✗", fault["message"] + often, "bold red"))
    parts += [marked("✓", passed, "green") for passed in found["passed"]]
    parts += [marked("·", note, "dim") for note in found["notes"]]
    return Group(*parts)


def marked(mark: str, text: str, style: str) -> Table:
    """Return a line that starts with a mark; longer ones are indented below it."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(mark, style=style), Text(printable(text)))
    return grid


def estimated_return(row: Mapping[str, Any]) -> str:
    """Format the optimal return of an environment with estimated starts."""
    spread = row["return_uncertainty"]
    return number(row["optimal_return"]) + (f" ± {spread:.2g}" if spread else "")


def describe_table(row: Mapping[str, Any]) -> str:
    """Describe whether there is an exact verdict, and its basis."""
    if not row["table"]:
        return f"no: {row['table_missing']}"
    if row.get("estimated"):
        return f"yes, on the table: {describe_estimate(row['estimated'])}"
    resets = row["starts_estimated_from_resets"]
    return f"yes; starts estimated from {resets:,} resets (± at 95 %)" if resets else "yes"


def environments_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Create the table of environments that can be trained on."""
    names = ("Environment", "Arguments", "States", "Actions", "Time limit", "Optimal return", "Exact verdict")
    return columns(
        None,
        names,
        [
            (
                row["id"],
                words(row["kwargs"]),
                row["states"],
                row["actions"],
                row["time_limit"],
                estimated_return(row) if row["starts_estimated_from_resets"] else row["optimal_return"],
                describe_table(row),
            )
            for row in rows
        ],
    )


def presets_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Create the table of presets."""
    return columns(
        None,
        ("Preset", "Environment", "Network", "Updates", "Description"),
        [
            (
                row["name"],
                f"{row['environment']} {words(row['kwargs'])}".strip(),
                row["network"],
                row["updates"],
                row["description"],
            )
            for row in rows
        ],
    )


def preset_page(row: Mapping[str, Any]) -> RenderableType:
    """Format a preset: what it is for, where its settings are from, and the settings, as TOML."""
    text = Text(f"{row['name']}: {row['description']}", "bold")
    return Group(text, *study_lines(row["study"]), "", Text(tomli_w.dumps(row["settings"])))


def study_lines(study: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield how the settings of a preset were found, and what the last search for better ones found."""
    yield Text(f"Found {study['origin']}.")
    if study["date"] is None:
        return
    yield Text(
        f"Searched again on {study['date']} with deeptaxi {study['version']}: {study['trials']} trials, each from "
        f"seeds {study['seeds']}, by {study['objective']}. Compared on unseen seeds, {study['unseen_seeds']}:"
    )
    measured = {"preset": study["shipped"], "found": study["best"]}
    rows = [
        (
            label,
            f"{found['optimal']} of {found['seeds']}",
            found.get("updates"),
            found["cpu_seconds"],
            words(found.get("settings", {})),
        )
        for label, found in measured.items()
        if found
    ]
    yield columns(None, ("", "Optimal", "Updates, median", "CPU s, median", "Settings"), rows)
    outcome = study["outcome"]
    yield Text(f"The preset {outcome if outcome == 'stands' else f'is {outcome}'}.")


NAMES = ("Agent", "Environment", "Network", "Optimal", "Return", "Best", "States", "Preset", "Made", "Size")
FIRST = ("Agent", "Optimal", "Return", "Best", "Environment", "Network", "States", "Size", "Preset", "Made")
RIGHT = ("Return", "Best", "Size")  # right-aligned
SPACE = 2  # between two columns
VERDICT = 41  # maximum characters of the columns from Optimal to Best, for numbers of usual size
SHORTEST = 20  # characters of a name before it is wrapped to make room for them
WATCHES = "Best may require a policy that watches the clock; an agent is optimal by its discounted value."


def agents_table(rows: Sequence[Mapping[str, Any]], width: int) -> RenderableType:
    """Create the table of `storage.zoo.agents` for a screen of `width` characters."""
    cells = [agent_cells(row) for row in rows]
    table = Columns(cells, fitting(cells, width), width)
    if any(row["optimal"] and row["exact"]["gap"] > 0 for row in rows):
        return Group(table, Text(WATCHES, "table.caption"))
    return table


@dataclass(frozen=True)
class Columns:
    """Rows of cells under column names; the first column wraps if it is too wide.

    Rich's own table lays out every cell separately: for 20,000 agents, that takes four times as long as reading them.

    Attributes:
        cells: the cells of each row, by column name.
        names: the columns shown.
        width: width of the screen, in characters.
    """

    cells: Sequence[Mapping[str, str]]
    names: Sequence[str]
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yield the rows."""
        first, *others = self.names
        sizes = {name: max(cell_len(text) for text in (name, *(row[name] for row in self.cells))) for name in others}
        room = max(self.width - sum(size + SPACE for size in sizes.values()) - SPACE, 1)
        longest = max(cell_len(text) for text in (first, *(row[first] for row in self.cells)))
        sizes = {first: min(longest, room), **sizes}
        header = console.get_style("table.header") + console.get_style("dim")
        yield from self.lines({name: name for name in self.names}, sizes, header)
        for row in self.cells:
            yield from self.lines(row, sizes)

    def lines(self, row: Mapping[str, str], sizes: Mapping[str, int], style: Style | None = None) -> Iterator[Segment]:
        """Yield one row, including the wrapped lines of its first cell."""
        first, *others = self.names
        begin, *rest = chop_cells(row[first], sizes[first]) or [""]
        aligned = [set_cell_size(begin, sizes[first])]
        for name in others:
            space = " " * (sizes[name] - cell_len(row[name]))
            aligned.append(space + row[name] if name in RIGHT else row[name] + space)
        for text in ((" " * SPACE).join(aligned), *rest):
            yield Segment(text.rstrip(), style)
            yield Segment.line()


def fitting(cells: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """Return the columns that fit the screen, in display order; the most informative ones have priority."""
    shown: set[str] = set()
    room = width
    for name in FIRST:
        needed = max(cell_len(text) for text in (name, *(row[name] for row in cells))) + SPACE
        if name == FIRST[0]:
            needed = min(needed, max(width - VERDICT, SHORTEST))
        if needed <= room or name == FIRST[0]:
            shown.add(name)
            room -= needed
    return [name for name in NAMES if name in shown]


def agent_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of an agent's row; a dash for what is unknown."""
    environment, exact = row["environment"], row["exact"] or {}
    states, actions = environment["states"], environment["actions"]
    cells = {
        "Agent": row["name"],
        "Environment": describe_environment(environment),
        "Network": row["network"]["kind"] if row["network"] else "–",
        "Optimal": optimal(row),
        "Return": number(exact.get("return")),
        "Best": number(exact.get("optimal_return")),
        "States": f"{states:,} × {actions:,}" if states else "–",
        "Preset": row["preset"] or "–",
        "Made": (row["made"] or "–").partition("T")[0],
        "Size": f"{row['bytes'] / 1000:,.0f} KB",
    }
    return {name: " ".join(printable(text).split()) for name, text in cells.items()}  # a cell is one line


def optimal(row: Mapping[str, Any]) -> str:
    """Describe whether an agent is optimal, and in how many of its start states."""
    if row["exact"] is None:
        return "–"
    exact = row["exact"]
    word = {True: "yes", False: "no", None: "unknown"}[exact["optimal"]]
    return f"{word}, {exact['optimal_start_states']:,} of {exact['start_states']:,}"
