"""Explicit models of PRISM: `.tra`, and beside it `.lab`, `.sta` and rewards.

    m.tra                 states choices transitions, then lines "state choice target probability [action]";
                          of a Markov chain "states transitions", then "state target probability"
    m.lab                 0="init" 1="deadlock" 2="goal", then lines "state: label label …"
    m.sta                 (x,y), then lines "state:(0,1)": names
    m.srew, m.trew, m.rew rewards of states ("state reward") and of transitions ("state choice target reward")

This is what `prism -exporttrans m.tra -exportlabels m.lab -exportstates m.sta -exportrewards m.srew m.trew` writes. A
reward of a state is earned with every action taken there. Episodes start in the states labelled `init`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from deeptaxi.errors import UsageError, nearest, printable
from deeptaxi.mdp.files.columns import text_of
from deeptaxi.mdp.files.outcomes import Facts, Outcomes, Reading, ReadOptions, Source, assemble_table, counted
from deeptaxi.mdp.table import Bools, TableError, check_memory

REWARDS = (".srew", ".trew", ".rew")
LABEL = re.compile(r'(\d+)\s*=\s*"([^"]*)"')
Line = tuple[int, list[str]]  # its number, its words


def lines_of_file(path: Path) -> Iterator[Line]:
    """Yield the lines of a file that hold something, without comments."""
    for number, line in enumerate(text_of(path).splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            yield number, words


def count_of(source: Source, number: int, word: str, below: int | None = None) -> int:
    """Convert a word to a whole number from 0, below a limit."""
    if not (word.isascii() and word.isdecimal()) or len(word) > 15 or (below is not None and int(word) >= below):
        limits = "from 0" if below is None else f"from 0 to {below - 1}"
        raise source.fault(f"{printable(word)[:40]!r}: expected a whole number {limits}", number)
    return int(word)


def real_of(source: Source, number: int, word: str) -> float:
    """Convert a word to a number; fractions such as ``1/3`` too."""
    try:
        above, slash, below = word.partition("/")
        return float(above) / float(below) if slash else float(word)
    except (ValueError, ZeroDivisionError):
        raise source.fault(f"{printable(word)[:40]!r}: expected a number", number) from None


def read_prism(path: Path, options: ReadOptions) -> Reading:
    """Read a `.tra` and the files beside it.

    Raises:
        UsageError: there is no such file, or no such label or start.
        TableError: a file is damaged, or the model has neither rewards nor a goal.
    """
    source = Source(str(path))
    sizes, body = read_sizes(source, list(lines_of_file(path)))
    states, chain = sizes[0], len(sizes) == 2
    state, choice, target, chance, label = transitions(source, body, states, chain)
    actions, action, names, notes = actions_of(state, choice, label)
    check_memory((states, actions, 1))
    reward, files = rewards_of(path, states, chain, state, choice, target)
    labels = labels_of(path.with_suffix(".lab"), states)
    if options.goal is None and not files:
        raise TableError(without_rewards(path, labels))
    ends = np.zeros(states, np.bool_) if options.goal is None else goal_states(path, labels, options.goal)
    if options.goal is not None:
        notes.append(f"episodes end in {counted(int(ends.sum()), 'state')} labelled '{options.goal}'")
        if not files:
            reward = ends[target].astype(np.float64)
            notes.append("getting there earns 1 without a discount, as there are no rewards: values are chances")
    numbers = np.array([number for number, _ in body])
    outcomes = Outcomes(state, action, target, chance, reward, ends[target], numbers)[~ends[state]]
    start = labels["init"] / labels["init"].sum() if "init" in labels and labels["init"].any() else None
    facts = Facts(
        states,
        actions,
        start,
        None if files else 1.0,
        state_names=names_of_states(path.with_suffix(".sta"), states),
        action_names=names,
        cure="PRISM gives such states a loop (-fixdl)",
        gaps=options.goal is not None,
        notes=tuple(notes),
    )
    found = assemble_table(source, outcomes, facts, options)
    kind = "Markov chain" if chain else "decision process"
    beside = f", rewards of {', '.join(files)}" if files else ""
    return Reading(found.table, f"PRISM's explicit {kind}{beside}", found.notes)


def read_sizes(source: Source, lines: Sequence[Line]) -> tuple[list[int], Sequence[Line]]:
    """Return the numbers in the first line of a `.tra`, and the lines after it.

    Raises:
        TableError: the numbers are invalid, or not those of the lines.
    """
    if not lines or len(lines[0][1]) not in (2, 3):
        raise source.fault('expected "states choices transitions", or "states transitions" of a Markov chain', 1)
    number, head = lines[0]
    sizes = [count_of(source, number, word) for word in head]
    if sizes[0] == 0:
        raise source.fault("a model without states", number)
    check_memory((sizes[0], 1, 1))
    body = lines[1:]
    if len(body) != sizes[-1]:
        raise source.fault(f"{sizes[-1]:,} transitions are announced, and {len(body):,} follow", number)
    return sizes, body


def without_rewards(path: Path, labels: Mapping[str, Bools]) -> str:
    """Say what a model without rewards lacks."""
    known = ", ".join(label for label in labels if label not in ("init", "deadlock")) or "none"
    wanted = ", ".join(path.with_suffix(end).name for end in REWARDS)
    return (
        f"{path} has no rewards beside it ({wanted}): add one, or "
        f"name a goal to earn 1 on reaching it (--goal LABEL or --env-arg goal=LABEL; labels: {printable(known)})"
    )


def transitions(
    source: Source, body: Sequence[Line], states: int, chain: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str | None]]:
    """Read the lines of a `.tra`."""
    rows, chances, labels = [], [], []
    width = 3 if chain else 4
    for number, words in body:
        if len(words) not in (width, width + 1):
            form = "state target probability" if chain else "state choice target probability [action]"
            raise source.fault(f'{len(words)} values: expected "{form}"', number)
        whole = words[: width - 1] if not chain else [words[0], "0", words[1]]
        rows.append(
            (
                count_of(source, number, whole[0], states),
                count_of(source, number, whole[1]),
                count_of(source, number, whole[2], states),
            )
        )
        chances.append(real_of(source, number, words[width - 1]))
        labels.append(words[width] if len(words) > width else None)
    table = np.array(rows, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2], np.array(chances, np.float64), labels


def actions_of(
    state: np.ndarray, choice: np.ndarray, label: Sequence[str | None]
) -> tuple[int, np.ndarray, tuple[str, ...] | None, list[str]]:
    """Number the actions: by their labels where these tell the choices of every state apart, else by the choices."""
    texts = [text for text in label if text is not None]
    owner: dict[tuple[int, str], int] = {}
    by_label = bool(texts) and len(texts) == len(label)
    if by_label:
        for s, c, text in zip(state.tolist(), choice.tolist(), texts, strict=True):
            by_label = by_label and owner.setdefault((s, text), c) == c
    if not by_label:
        said = ["actions are the choices of each state by number, as not all have labels of their own"] if texts else []
        return int(choice.max(initial=0)) + 1, choice, None, said
    numbers: dict[str, int] = {}
    action = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
    return len(numbers), action, tuple(map(printable, numbers)), []


def rewards_of(
    path: Path, states: int, chain: bool, state: np.ndarray, choice: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Return the reward of each transition, and the names of the files that it comes from."""
    reward, files = np.zeros(len(state)), []
    for end in REWARDS:
        file = path.with_suffix(end)
        if not file.is_file():
            continue
        files.append(file.name)
        source, lines = Source(str(file)), list(lines_of_file(file))
        if not lines:
            raise source.fault("the file is empty", 1)
        body, width = lines[1:], {len(words) for _, words in lines[1:]}
        if width == {2}:
            each = np.zeros(states)
            for number, words in body:
                each[count_of(source, number, words[0], states)] = real_of(source, number, words[1])
            reward += each[state]
        elif body:
            found: dict[tuple[int, ...], float] = {}
            for number, words in body:
                if len(words) != (3 if chain else 4):
                    form = "state target reward" if chain else "state choice target reward"
                    raise source.fault(f'{len(words)} values: expected "{form}", or "state reward"', number)
                whole = (words[0], "0", words[1]) if chain else (words[0], words[1], words[2])
                key = (
                    count_of(source, number, whole[0], states),
                    count_of(source, number, whole[1]),
                    count_of(source, number, whole[2], states),
                )
                found[key] = real_of(source, number, words[-1])
            keys = zip(state.tolist(), choice.tolist(), target.tolist(), strict=True)
            reward += np.array([found.pop(key, 0.0) for key in keys])
            if found:
                s, c, t = next(iter(found))
                raise source.fault(
                    f"it has a reward for state {s}, choice {c}, target {t}, which {path.name} has no transition for"
                )
    return reward, files


def labels_of(path: Path, states: int) -> dict[str, Bools]:
    """Read a `.lab`: the states of each label, `[S]`; empty if there is no file."""
    if not path.is_file():
        return {}
    source, lines = Source(str(path)), text_of(path).splitlines()
    head = lines[0] if lines else ""
    names = dict(LABEL.findall(head))
    if not names or LABEL.sub("", head).strip():
        raise source.fault('expected labels such as 0="init" 1="goal"', 1)
    if len(names) < len(LABEL.findall(head)):
        raise source.fault("two labels have one number", 1)
    found = {name: np.zeros(states, np.bool_) for name in names.values()}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        left, colon, right = line.partition(":")
        if not colon:
            raise source.fault('expected "state: label label …"', number)
        state = count_of(source, number, left.strip(), states)
        for word in right.split():
            if word not in names:
                raise source.fault(f"label {printable(word)[:40]!r} is not in the first line", number)
            found[names[word]][state] = True
    return found


def goal_states(path: Path, labels: dict[str, Bools], goal: str) -> Bools:
    """Return the states of a label.

    Raises:
        UsageError: no state has it.
    """
    if goal not in labels or not labels[goal].any():
        file = path.with_suffix(".lab")
        known = nearest(goal, labels) or f"; it has {', '.join(map(printable, labels)) or 'none'}"
        raise UsageError(f"{file} has no state with the label '{printable(goal)}'{known}")
    return labels[goal]


def names_of_states(path: Path, states: int) -> tuple[str, ...] | None:
    """Read a `.sta`: the name of each state; None if there is no file."""
    if not path.is_file():
        return None
    source, names = Source(str(path)), [""] * states
    variables = ""
    for number, line in enumerate(text_of(path).splitlines(), 1):
        left, colon, right = line.strip().partition(":")
        if colon:
            names[count_of(source, number, left.strip(), states)] = right.strip()[:200]
        elif number == 1:
            variables = left
        elif left:
            raise source.fault('expected "state:(values)"', number)
    parts = variables.strip("()").split(",")
    named = [name_of_state(name, parts) for name in names]
    return tuple(name or f"state {index}" for index, name in enumerate(named))


def name_of_state(values: str, variables: Sequence[str]) -> str:
    """Name a state by its variables: ``x=0, y=1``."""
    parts = values.strip("()").split(",")
    if len(parts) != len(variables) or not all(variables):
        return values
    return ", ".join(f"{name.strip()}={value.strip()}" for name, value in zip(variables, parts, strict=True))
