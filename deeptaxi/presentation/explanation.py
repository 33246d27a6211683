"""One update on paper: what `explain update` prints, step by step, from the same numbers as its JSON.

Every step is a heading, its formula, and its numbers, with a column an action; the action taken is marked with ▸.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deeptaxi.presentation import explained_weights as weights
from deeptaxi.presentation.actions import Actions, actions_of
from deeptaxi.presentation.console import facts
from deeptaxi.presentation.explained_weights import Lines, Summary, indented, line
from deeptaxi.presentation.numbers import factor, plain

LOSSES = {"mse": ("error²", "−2 · td_error"), "huber": ("huber(error)", "−clip(td_error, −1, 1)")}
AGGREGATES = {"mean": " − mean(A)", "max": " − max(A)", "none": ""}


def of_update(summary: Summary) -> Group:
    """Return the whole explanation."""
    actions = actions_of(summary)
    steps: list[tuple[str, Callable[[Summary, Actions], Lines]]] = [
        ("Predict the state, by the online network", predicted),
        ("Predict the next state, by the target network", predicted_next),
        ("Make the td_target", td_target),
        ("Overwrite: the network's own predictions, and td_target for the action taken", overwritten),
        ("The loss: only one output has an error", loss),
        ("Back through the loss: dE/dQ", gradient),
    ]
    if summary["gradient"]["dE_dA_nested"] is not None:
        steps.append(("Back through the dueling head: dE/dV and dE/dA", streams))
    steps.append(("The weights that change", lambda found, _: weights.changed(found)))
    if summary["tabular"] is not None:
        steps.append(("The same in a Q table", lambda found, _: weights.tabular(found)))
    steps.append(("Predict again", after))
    if summary["comparison"] is not None:
        steps.append(("Compare: the masked gradient", lambda found, _: weights.compared(found)))
    parts: Lines = [head(summary)]
    for number, (title, lines) in enumerate(steps, start=1):
        parts += [Text(), Text(f"{number}  {title}", style="bold"), *lines(summary, actions)]
    hidden = len(summary["q_online"]) - len(actions.shown)
    if hidden:
        parts += [Text(), line(f"{hidden} more actions have no column here; --json has all.", "dim")]
    return Group(*parts)


def head(summary: Summary) -> Table:
    """Return what is updated, and by what."""
    network, action = summary["network"], summary["action"]
    hidden = ", hidden " + " × ".join(map(str, network["hidden"])) if network["hidden"] else ""
    origin = f"of {summary['model']}" if summary["model"] else f"fresh, seed {summary['seed']}"
    noise = summary["target_noise"]
    target = "equal to the online network" + (" as at the start of a training" if summary["model"] is None else "")
    rows: dict[str, str | Text] = {
        "State": f"{summary['state']}: {summary['state_name']}",
        "Action": f"{action}: {summary['action_names'][action]}",
        "Outcome": f"{outcome(summary)} ({summary['outcome']})",
        "Network": f"{network['kind']}{hidden}, {network['encoding']} encoding; {origin}",
        "Target network": target if noise is None else f"the online network with noise of spread {noise:g}",
        "Settings": settings(summary),
    }
    return facts(f"One update on {summary['environment']['id']}", rows)


def outcome(summary: Summary) -> str:
    """Say what the first step led to."""
    first = summary["transitions"][0]
    chance = "" if first["probability"] is None else f", probability {plain(first['probability'])}"
    ends = ", terminated" if first["terminated"] else ", truncated" if first["truncated"] else ""
    return f"reward {plain(first['reward'])}, next state {first['next_state']}{ends}{chance}"


def settings(summary: Summary) -> str:
    """Return the settings that shape the update."""
    optimizer = summary["optimizer"]
    parts = [
        f"discount {summary['discount']:g}",
        f"{optimizer['name']}, fresh, learning rate {summary['learning_rate']:g}",
        f"loss {optimizer['loss']}",
        f"B = {summary['batch_size']}",
    ]
    parts += ["double DQN"] * summary["double"] + [f"{summary['n_step']} steps"] * (summary["n_step"] > 1)
    parts += [f"rewards / {summary['reward_scale']:g}"] * (summary["reward_scale"] != 1)
    parts += [f"preset {summary['preset']}"] * (summary["model"] is None)
    return ", ".join(parts)


def predicted(summary: Summary, actions: Actions) -> Lines:
    """Step 1."""
    return [actions.table({"q_online": summary["q_online"]})]


def predicted_next(summary: Summary, actions: Actions) -> Lines:
    """Step 2."""
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
        equal = " The two are equal here: --target-noise parts them." * (summary["q_target"] == summary["choosing_q"])
        say = f"Double DQN: q_online chooses action {best} ({name}){excluded}, q_target rates it: {value}.{equal}"
    else:
        say = f"The largest{excluded}: action {best} ({name}), {value}"
    return [where, rows, line(say)]


def td_target(summary: Summary, _actions: Actions) -> Lines:
    """Step 3: formula and numbers."""
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
    error = f"{total} − {factor(taken)} = {plain(found['td_error'])}"
    return [
        *lines,
        line(f"td_target = {gain}{end}" + ("      terminated: no bootstrap" if found["terminated"] else ""), "dim"),
        line(f"          = {numbers}" + f" = {total}" * (numbers != total)),
        line("td_error  = td_target − q_online(s)[a]", "dim"),
        line(f"          = {error}"),
    ]


def rewards(summary: Summary) -> Padding:
    """Return the steps of an n-step target, each reward with its factor."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("k", "state", "action", "reward", "discount^k", "product", "next state"):
        table.add_column(name, justify="right", header_style="dim", no_wrap=True)
    found = summary["td_target"]
    for k, (step, reward, gamma) in enumerate(
        zip(summary["transitions"], found["rewards"], found["factors"], strict=True)
    ):
        ends = " ended" if step["terminated"] else " cut" if step["truncated"] else ""
        numbers = (plain(reward), plain(gamma), plain(reward * gamma))
        table.add_row(str(k), str(step["state"]), str(step["action"]), *numbers, f"{step['next_state']}{ends}")
    return indented(table)


def overwritten(summary: Summary, actions: Actions) -> Lines:
    """Step 4."""
    rows = {"q_online": summary["q_online"], "targets": summary["targets"]}
    return [line("targets = q_online(s);  targets[a] = td_target", "dim"), actions.table(rows)]


def loss(summary: Summary, actions: Actions) -> Lines:
    """Step 5."""
    found, count, batch = summary["loss"], len(summary["q_online"]), summary["batch_size"]
    function = LOSSES[found["name"]][0]
    one = found["outputs"][summary["action"]]
    return [
        line(f"E = 1/(A·B) · Σ {function}        Keras averages over all A outputs and B samples", "dim"),
        actions.table({"error": found["errors"], function: found["outputs"]}),
        line(f"E = 1/({count}·{batch}) · {plain(one)} = {plain(found['loss'])}"),
    ]


def gradient(summary: Summary, actions: Actions) -> Lines:
    """Step 6."""
    g, form = summary["gradient"]["dE_dQ"], LOSSES[summary["loss"]["name"]][1]
    return [
        line(f"dE/dQ[a] = {form} / (A·B) = {plain(g[summary['action']])};  every other action: 0", "dim"),
        actions.table({"dE/dQ": g}),
    ]


def streams(summary: Summary, actions: Actions) -> Lines:
    """Step 7, of a dueling head."""
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
    """Last step: what the network predicts now."""
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
