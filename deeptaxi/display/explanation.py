"""One update on paper: print `explain update` step by step, and the gradient check of `explain gradients`.

The numbers are those of the JSON. Every step has a heading, its formula, and its numbers, with one column per action;
the action taken is marked with ▸.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deeptaxi.arguments import short_words
from deeptaxi.display.console import factor, facts, plain, short

INDENT = (0, 0, 0, 3)
NAMED_ROWS = 5
Summary = Mapping[str, Any]
Lines = list[RenderableType]


def line(text: str, style: str = "") -> Padding:
    """Return an indented line of text."""
    return indent(Text(text, style=style))


def indent(part: RenderableType) -> Padding:
    """Indent it below a heading."""
    return Padding(part, INDENT, expand=False)


def table(names: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> Padding:
    """Create a table; the first `left` columns are left-aligned."""
    found = Table(box=None, padding=(0, 2, 0, 0))
    for index, name in enumerate(names):
        found.add_column(name, justify="left" if index < left else "right", header_style="dim", no_wrap=index == 0)
    for row in rows:
        found.add_row(*row)
    return indent(found)


def changed_weights(summary: Summary) -> Lines:
    """List the weights, how much of each changed, and by how much."""
    rows = [
        (
            weight["name"],
            " × ".join(map(str, weight["shape"])),
            which(weight["rows"], weight["shape"][0]),
            f"{weight['entries']:,}",
            short(weight["largest"]),
        )
        for weight in summary["weights"]
    ]
    lines: Lines = [table(("weight", "shape", "rows that change", "entries", "largest change"), rows, left=3)]
    optimizer = summary["optimizer"]
    if optimizer.get("clip_norm") is not None:
        norm, limit = plain(summary["gradient_norm"]), optimizer["clip_norm"]
        lines.append(line(f"The whole gradient has norm {norm}; where that is above {limit:g}, it is scaled down."))
    if optimizer["name"] == "adam":
        rate = f"{summary['learning_rate']:g}"
        lines.append(line(f"A fresh Adam moves each weight by about the learning rate, {rate}, whatever its gradient."))
    return lines


def which(rows: Sequence[int], count: int) -> str:
    """Count the rows, and list them if they are few of many."""
    named = f": {', '.join(map(str, rows))}" if 0 < len(rows) <= NAMED_ROWS and len(rows) < count else ""
    return f"{len(rows)} of {count}{named}" if rows else "none"


def tabular(summary: Summary) -> Lines:
    """Compare the tabular rule with the actual step."""
    found, count, batch = summary["tabular"], len(summary["q_online"]), summary["batch_size"]
    entry, rate = f"Q[{summary['state']}, {summary['action']}]", summary["learning_rate"]
    before, error, made = plain(found["before"]), factor(found["td_error"]), plain(found["after"])
    alpha = f"α = 2·lr/(A·B) = 2·{rate:g}/({count}·{batch}) = {plain(2 * rate / (count * batch))}"
    if found["alpha"] is None:
        optimizer = summary["optimizer"]["name"]
        return [
            line(f"{entry} += α · td_error,  {alpha}", "dim"),
            line(f"holds for plain SGD on mse. Here {optimizer} moved {entry} from {before} to {made}."),
            line("See it with --optimizer sgd, or --optimizer sgd --tabular-step α.", "dim"),
        ]
    return [
        line(f"{entry} += α · td_error,  {alpha}", "dim"),
        line(f"{before} + {plain(found['alpha'])} · {error} = {plain(found['expected'])}"),
        line(f"The network's weight is {made} now: the difference is {tiny(found['difference'])}."),
    ]


def tiny(value: float) -> str:
    """Format a number that should be zero, as zero if it is."""
    return f"{value:.1e}" if value else "0"


def compare_gradients(summary: Summary) -> Lines:
    """Compare the overwrite recipe with the masked gradient."""
    found = summary["comparison"]
    rows = [
        (weight["name"], tiny(weight["gradient_difference"]), tiny(weight["weight_difference"]))
        for weight in found["weights"]
    ]
    totals = ("largest", tiny(found["gradient_difference"]), tiny(found["weight_difference"]))
    sizes = ("compared with values up to", short(found["largest_gradient"]), short(found["largest_step"]))
    losses = f"E = {plain(found['overwrite_loss'])} and {plain(found['masked_loss'])}"
    return [
        line("recipe: the loss of all A outputs against the overwritten targets", "dim"),
        line("masked: the loss of q_online(s)[a] against td_target alone, at the same scale", "dim"),
        line(f"{losses}; differences of gradients, and of weights after the step:"),
        table(("weight", "gradients", "weights"), [*rows, totals, sizes]),
    ]


SHOWN = 6  # actions that fit in 80 columns


@dataclass(frozen=True)
class Actions:
    """The actions with a column: the one taken, those that matter for the target, and the first of the others."""

    names: Sequence[str]
    taken: int
    shown: list[int]

    def table(self, rows: Mapping[str, Sequence[float] | None], next_action: int | None = None) -> Padding:
        """Format the rows that are not None, one column per action; rows of a next state mark `next_action`."""
        marked = self.taken if next_action is None else next_action
        table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False)
        table.add_column("action", style="dim", header_style="dim", no_wrap=True, width=12)
        for action in self.shown:
            mark, style = ("▸ ", "bold") if action == marked else ("", "")
            name = "" if self.names[action] == f"action {action}" else f"\n{cut(self.names[action])}"
            header = Text(f"{mark}{action}{name}", style=style or "dim")
            table.add_column(header, justify="right", style=style, no_wrap=True, width=9)
        for label, values in rows.items():
            if values is not None:
                table.add_row(label, *(short(values[action]) for action in self.shown))
        return indent(table)


def cut(name: str) -> str:
    """Truncate a name to nine characters."""
    return name if len(name) <= 9 else name[:8] + "…"


def actions_of(summary: Summary) -> Actions:
    """Choose the actions to show."""
    count, target = len(summary["q_online"]), summary["td_target"]
    first = [summary["action"]] + [target["best_action"]] * (target["best_action"] is not None)
    order = list(dict.fromkeys([*first, *range(count)]))
    return Actions(summary["action_names"], summary["action"], sorted(order[:SHOWN]))


LOSSES = {"mse": ("error²", "−2 · td_error"), "huber": ("huber(error)", "−clip(td_error, −1, 1)")}
AGGREGATES = {"mean": " − mean(A)", "max": " − max(A)", "none": ""}


def of_update(summary: Summary) -> Group:
    """Format the whole explanation."""
    actions = actions_of(summary)
    steps: list[tuple[str, Callable[[Summary, Actions], Lines]]] = [
        ("Predict the state with the online network", step_predictions),
        ("Predict the next state with the target network", predicted_next),
        ("Compute the td_target", td_target),
        ("Overwrite: the network's own predictions, and td_target for the action taken", step_targets),
        ("The loss: only one output has an error", loss),
        ("Back through the loss: dE/dQ", gradient),
    ]
    if summary["gradient"]["dE_dA_nested"] is not None:
        steps.append(("Back through the dueling head: dE/dV and dE/dA", streams))
    steps.append(("The weights that change", lambda found, _: changed_weights(found)))
    if summary["tabular"] is not None:
        steps.append(("The same in a Q table", lambda found, _: tabular(found)))
    steps.append(("Predict again", after))
    if summary["comparison"] is not None:
        steps.append(("Compare: the masked gradient", lambda found, _: compare_gradients(found)))
    parts: Lines = [head(summary)]
    for number, (title, lines) in enumerate(steps, start=1):
        parts += [Text(), Text(f"{number}  {title}", style="bold"), *lines(summary, actions)]
    hidden = len(summary["q_online"]) - len(actions.shown)
    if hidden:
        parts += [Text(), line(f"{hidden} more actions have no column here; --json has all.", "dim")]
    return Group(*parts)


def head(summary: Summary) -> Table:
    """Describe the transition, the network and the settings of the update."""
    network, action = summary["network"], summary["action"]
    origin = f"of {summary['model']}" if summary["model"] else f"fresh, seed {summary['seed']}"
    noise = summary["target_noise"]
    target = "equal to the online network" + (" as at the start of a training" if summary["model"] is None else "")
    rows: dict[str, str | Text] = {
        "State": f"{summary['state']}: {summary['state_name']}",
        "Action": f"{action}: {summary['action_names'][action]}",
        "Outcome": f"{outcome(summary)} ({summary['outcome']})",
        "Network": f"{describe_network(network)}; {origin}",
        "Target network": target if noise is None else f"the online network plus noise of standard deviation {noise:g}",
        "Settings": settings(summary),
    }
    return facts(f"One update on {summary['environment']['id']}", rows)


def describe_network(network: Mapping[str, Any]) -> str:
    """Describe the network in a few words."""
    if "builder" in network:
        return f"{network['kind']}, of {network['builder']} {short_words(network.get('kwargs') or {})}".strip()
    hidden = ", hidden " + " × ".join(map(str, network["hidden"])) if network["hidden"] else ""
    return f"{network['kind']}{hidden}, {network['encoding']} encoding"


def outcome(summary: Summary) -> str:
    """Describe the outcome of the first step."""
    first = summary["transitions"][0]
    chance = "" if first["probability"] is None else f", probability {plain(first['probability'])}"
    ends = ", terminated" if first["terminated"] else ", truncated" if first["truncated"] else ""
    return f"reward {plain(first['reward'])}, next state {first['next_state']}{ends}{chance}"


def settings(summary: Summary) -> str:
    """List the settings that shape the update."""
    optimizer = summary["optimizer"]
    parts = [
        f"discount {summary['discount']:g}",
        f"{optimizer['name']}, fresh, learning rate {summary['learning_rate']:g}",
        f"loss {optimizer['loss']}",
        f"B = {summary['batch_size']}",
    ]
    parts += ["one outcome of those that training takes the expectation of"] * (summary["backup"] == "expected")
    plain_sum = ", uncorrected" * (summary["n_step_correction"] == "none")
    parts += ["double DQN"] * summary["double"] + [f"{summary['n_step']} steps{plain_sum}"] * (summary["n_step"] > 1)
    parts += [f"rewards / {summary['reward_scale']:g}"] * (summary["reward_scale"] != 1)
    parts += [f"preset {summary['preset']}"] * (summary["model"] is None)
    return ", ".join(parts)


def step_predictions(summary: Summary, actions: Actions) -> Lines:
    """Step 1: the predictions for the state."""
    return [actions.table({"q_online": summary["q_online"]})]


def predicted_next(summary: Summary, actions: Actions) -> Lines:
    """Step 2: the predictions for the next state."""
    target = summary["td_target"]
    where = line(f"state {target['next_state']}: {summary['next_state_name']}", "dim")
    best = target["best_action"]
    values = {"q_target": summary["q_target"], "q_online": summary["choosing_q"]}
    rows = actions.table(values, next_action=-1 if best is None else best)
    if target["terminated"]:
        return [where, rows, line("The episode ended here, so none of it counts.")]
    value, name = plain(target["bootstrap"]), summary["action_names"][best]
    allowed = ", ".join(str(action) for action, may in enumerate(target["allowed"]) if may)
    excluded = f" of those that the action mask allows ({allowed})" * (not all(target["allowed"]))
    if summary["double"]:
        equal = " The two are equal here: --target-noise makes them differ." * (
            summary["q_target"] == summary["choosing_q"]
        )
        say = f"Double DQN: q_online chooses action {best} ({name}){excluded}, q_target evaluates it: {value}.{equal}"
    else:
        say = f"The largest{excluded}: action {best} ({name}), {value}"
    return [where, rows, line(say)]


def td_target(summary: Summary, _actions: Actions) -> Lines:
    """Step 3: the td_target, as formula and numbers."""
    found, taken = summary["td_target"], summary["q_online"][summary["action"]]
    lines: Lines = []
    if summary["reward_scale"] != 1:
        scale, first = f"{summary['reward_scale']:g}", summary["transitions"][0]["reward"]
        units = f"{plain(first)} counts {plain(first)} / {scale} = {plain(found['rewards'][0])}"
        lines.append(line(f"Learned in units of the reward scale {scale}: the reward {units}."))
    several = len(found["rewards"]) > 1
    gain = "Σ_k discount^k · reward_k" if several else "reward"
    power = f"discount^{len(found['rewards'])}" if several else "discount"
    best = "q_target(s')[argmax_a q_online(s')[a]]" if summary["double"] else "max_a q_target(s')[a]"
    end = "" if found["terminated"] else f" + {power} · {best}"
    numbers, total = plain(found["reward"]), plain(found["td_target"])
    if not found["terminated"]:
        numbers += f" + {plain(found['discount'])} · {factor(found['bootstrap'])}"
    if several:
        lines += [rewards(summary)]
    if len(found["rewards"]) < len(summary["transitions"]):
        lines.append(line(cut_of(summary)))
    error = f"{total} − {factor(taken)} = {plain(found['td_error'])}"
    return [
        *lines,
        line(f"td_target = {gain}{end}" + ("      terminated: no bootstrap" if found["terminated"] else ""), "dim"),
        line(f"          = {numbers}" + f" = {total}" * (numbers != total)),
        line("td_error  = td_target − q_online(s)[a]", "dim"),
        line(f"          = {error}"),
    ]


def cut_of(summary: Summary) -> str:
    """Say why an n-step target has fewer steps than there are."""
    steps, count = summary["transitions"], len(summary["td_target"]["rewards"])
    state, action = steps[count]["state"], steps[count]["action"]
    why = f"action {action} is not greedy in state {state} (--n-step-correction none sums them all)"
    return f"The sum ends after {count} of {len(steps)} steps: {why}."


def rewards(summary: Summary) -> Padding:
    """List the steps used of an n-step target, each reward with its factor."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("k", "state", "action", "reward", "discount^k", "product", "next state"):
        table.add_column(name, justify="right", header_style="dim", no_wrap=True)
    found = summary["td_target"]
    for k, (step, reward, gamma) in enumerate(
        zip(summary["transitions"], found["rewards"], found["factors"], strict=False)
    ):
        ends = " ended" if step["terminated"] else " cut" if step["truncated"] else ""
        numbers = (plain(reward), plain(gamma), plain(reward * gamma))
        table.add_row(str(k), str(step["state"]), str(step["action"]), *numbers, f"{step['next_state']}{ends}")
    return indent(table)


def step_targets(summary: Summary, actions: Actions) -> Lines:
    """Step 4: the targets of the fit."""
    rows = {"q_online": summary["q_online"], "targets": summary["targets"]}
    return [line("targets = q_online(s);  targets[a] = td_target", "dim"), actions.table(rows)]


def loss(summary: Summary, actions: Actions) -> Lines:
    """Step 5: the loss."""
    found, count, batch = summary["loss"], len(summary["q_online"]), summary["batch_size"]
    function = LOSSES[found["name"]][0]
    one = found["outputs"][summary["action"]]
    return [
        line(f"E = 1/(A·B) · Σ {function}        Keras averages over all A outputs and B samples", "dim"),
        actions.table({"error": found["errors"], function: found["outputs"]}),
        line(f"E = 1/({count}·{batch}) · {plain(one)} = {plain(found['loss'])}"),
    ]


def gradient(summary: Summary, actions: Actions) -> Lines:
    """Step 6: the gradient."""
    g, form = summary["gradient"]["dE_dQ"], LOSSES[summary["loss"]["name"]][1]
    return [
        line(f"dE/dQ[a] = {form} / (A·B) = {plain(g[summary['action']])};  every other action: 0", "dim"),
        actions.table({"dE/dQ": g}),
    ]


def streams(summary: Summary, actions: Actions) -> Lines:
    """Step 7: the streams of a dueling head."""
    found, aggregate = summary["gradient"], AGGREGATES[summary["gradient"]["aggregation"]]
    total, count = found["dE_dV"], len(summary["q_online"])
    value = f"V = {plain(found['value'])};  dE/dV = Σ_j g_j = {plain(total)}      V is one neuron: one number"
    rows = {"A": found["advantage"], "nested sum": found["dE_dA_nested"], "shared sum": found["dE_dA_shared"]}
    lines: Lines = [line(f"Q = V + A{aggregate};  g = dE/dQ;  N = {count} actions", "dim"), line(value)]
    if found["aggregation"] == "mean":
        lines += [
            line("nested sum: dE/dA_i = Σ_j g_j · (δ_ij − 1/N)      N products for each of N actions", "dim"),
            line("shared sum: dE/dA_i = g_i − Σ_j g_j / N           the sum of dE/dV, used again", "dim"),
        ]
    lines.append(actions.table(rows))
    if found["aggregation"] == "mean":
        say = f"The actions not taken get {plain(-total / count)} each: they pay for the mean."
        lines.append(line(say))
    return lines


def after(summary: Summary, actions: Actions) -> Lines:
    """Last step: the network's new predictions."""
    found, before = summary["after"], summary["q_online"]
    change = [new - old for new, old in zip(found["q_values"], before, strict=True)]
    error = f"td_error {plain(summary['td_target']['td_error'])} → {plain(found['td_error'])}, against the same target."
    others = found["other_states"]
    here = f"{found['other_actions']} other action{'s' * (found['other_actions'] != 1)} of this state"
    if others:
        largest = f"by up to {plain(found['largest_elsewhere'])} (in state {found['largest_state']})"
        count = f"{others} of {summary['environment']['states'] - 1} other states"
        say = f"{here} and {count} moved too, {largest}: they share weights."
    elif found["other_actions"]:
        say = f"{here} moved too, and no other state: it shares no weight with them."
    elif not any(change):
        say = "Nothing has moved."
    else:
        say = "No other action and no other state has moved: each has a weight of its own."
    return [actions.table({"before": before, "after": found["q_values"], "change": change}), line(error), line(say)]


FORMS = {
    "mean": ("mean(A)", "dE/dA_i = g_i − (1/N)·Σ_j g_j"),
    "max": ("max(A)", "dE/dA_i = g_i − [i is the best action]·Σ_j g_j"),
    "none": ("nothing", "dE/dA_i = g_i"),
}
WAYS = {"nested": "nested sum", "shared": "shared sum", "autodiff": "autodiff", "central_differences": "differences"}
SHOWN_GRADIENTS = 12


def gradient_check(summary: Mapping[str, Any]) -> RenderableType:
    """Format the results of all methods, their differences, and what they show."""
    count, (taken_off, form) = summary["actions"], FORMS[summary["aggregation"]]
    total = summary["dE_dV"]["nested"]
    lines: list[RenderableType] = [
        Text(f"The gradient of a dueling head, N = {count} actions", style="bold"),
        Text(f"Q = V + A − {taken_off};  g = dE/dQ is what the loss sends in\n", style="dim"),
        Text(f"  dE/dV   = Σ_j g_j = {plain(total)}      V is one neuron: it gets one number"),
        Text(f"  {form}{example(summary, total)}\n"),
        gradient_table(summary),
    ]
    if count > SHOWN_GRADIENTS:
        lines.append(Text(f"{count - SHOWN_GRADIENTS} more actions: --json has all", style="dim"))
    return Group(*lines, Text(), gradient_verdict(summary))


def example(summary: Mapping[str, Any], total: float) -> str:
    """Format the shared sum with the numbers of the first action; empty unless the aggregation is the mean."""
    if summary["aggregation"] != "mean":
        return ""
    first, count = summary["dE_dQ"][0], summary["actions"]
    return f"   e.g. {plain(first)} − {factor(total)}/{count} = {plain(summary['dE_dA']['shared'][0])} for i = 0"


def gradient_table(summary: Mapping[str, Any]) -> Table:
    """Create a table with a row for each dE/dA and one for dE/dV, and a column per method."""
    shown = Table(box=None, padding=(0, 2, 0, 0))
    shown.add_column("", style="dim", no_wrap=True)
    for name in ("dE/dQ", *WAYS.values()):
        shown.add_column(name, justify="right", header_style="dim", no_wrap=True)
    for index, g in enumerate(summary["dE_dQ"][:SHOWN_GRADIENTS]):
        ways = (summary["dE_dA"][way] for way in WAYS)
        shown.add_row(f"dE/dA_{index}", short(g), *(short(values and values[index]) for values in ways))
    total = summary["dE_dV"]
    shared = total["nested"] if summary["aggregation"] == "mean" else None  # the shared sum
    shown.add_row("dE/dV", "", *(short({**total, "shared": shared}[way]) for way in WAYS))
    return shown


def gradient_verdict(summary: Mapping[str, Any]) -> Text:
    """Describe how far the methods differ."""
    found = summary["discrepancy"]
    parts = [f"{WAYS[way]} {tiny(found[way])}" for way in WAYS if found.get(way) is not None]
    style = "green" if found["largest"] <= summary["limit"] else "red"
    text = Text(f"Largest discrepancy {tiny(found['largest'])} (allowed: {summary['limit']:g})", style=style)
    text.append(f"\nfrom the nested sum: {', '.join(parts)}", style="dim")
    if summary["vectors"]:
        text.append(f"\nWrote {summary['vectors']}", style="default")
    return text
