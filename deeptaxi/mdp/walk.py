"""Walk through every state that an environment can reach, by snapshots, with all the chance of every step.

A node of the walk is an observation (a state number) with the parts of the snapshot that matter. Not all do:

- *Free* parts change nothing: a count of steps, the last action, the sum of rewards. Exchanging their values for others
  that were seen leaves every observation, reward, ending and every other part as it was. This is tried on states of
  random episodes first, and then again with each action in each node.
- *Told* parts matter only as far as the observation tells: the cards of a hand, of which only the sum counts. Their
  values are many, so they are looked for only where nodes become many. A snapshot that differs from a node in observed
  parts alone is the same node if they agree in `ENOUGH` sequences of draws, observation by observation and reward by
  reward; hands that once disagreed are kept apart everywhere.

Trials are evidence, not proof: `discover` steps the real environment against the table in the end.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple, NoReturn

from deeptaxi.mdp.beliefs import Graph, Outcome
from deeptaxi.mdp.chance import (
    NEGLIGIBLE,
    NotDiscoverableError,
    PrunedError,
    StandIns,
    Tape,
    Uniform,
    enumerate_runs,
)
from deeptaxi.mdp.contract import finite, truth
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.snapshots import VALUES, Attribute, Snapshot, SnapshotBox
from deeptaxi.mdp.verify import LONGEST_EPISODE

COMPARED = 150  # steps of random episodes, to see what changes
PLAYED = 1_500  # steps of random episodes, to gather snapshots
PLAYED_SECONDS = 1.0  # for each of these, at most
RESETS = 1_000  # random ones that are too improbable to be followed, in a row
SHORT = 15  # steps after which every other of them is cut
LARGE = 512  # bytes of an attribute that is compared less often
SELDOM = 50  # steps between comparisons of those
PAIRS = 40  # snapshots that a part is exchanged between
SCRIPTS = 16  # sequences of draws that two snapshots are compared in, per action
ENOUGH = 256  # sequences in which two values of observed parts agree before they are the same
MANY, TIMES = 2_000, 8  # nodes, in all and per state number, from which observed parts are looked for
RESTARTS = 25
PREDICTED = 1_000, 50  # runs of one step and nodes from which it is predicted how many there will be
PREDICTED_TIMES = 1.5  # the limit, so that it is met for certain
WAITED = 4  # seconds on the clock that count as one of computing
REPORT_EVERY = 0.2  # seconds between reports of progress


@dataclass(frozen=True)
class Limits:
    """Where a walk ends: nodes, runs of a step or a reset, and seconds."""

    states: int = 1_000_000
    branches: int = 50_000_000
    seconds: float = 600.0


class Result(NamedTuple):
    """What one step or reset led to."""

    state: int
    reward: float
    terminated: bool


class RestartError(Exception):
    """The walk has learned which parts matter, and begins again."""


class Walk:
    """A walk through an environment.

    Attributes:
        box: the environment, and which of its attributes a snapshot holds.
        free, observed: the parts that change nothing, and those that matter only as far as the observation tells.
        branches: the runs made.
        truncated_after: how often the environment truncated random episodes by itself, by the steps after which.
        outlasted: the most steps after which a random episode continued.
        snapshots: one of each node.
    """

    def __init__(self, environment: Environment, limits: Limits, progress: Callable[[str], object]) -> None:
        self._codec = environment.codec
        self._first_action = environment.first_action
        self._actions = environment.actions
        self._limits = limits
        self._began = time.process_time(), time.monotonic()
        self._progress = progress
        self._tape = Tape()
        self.stand_ins = StandIns(self._tape)
        self.box = SnapshotBox(environment.make(), self.stand_ins)
        self._top = self.box.layers[0]
        self._luck = Random(0)  # noqa: S311  # of trials, not of secrets
        self._changing: set[Attribute] = set()
        self._restarts = 0
        self._reported_at = 0.0
        self._pool: list[tuple[int, Snapshot]] = []
        self._may_merge = True
        self._agreed: dict[tuple[Any, Any], int] = {}
        self._apart: set[tuple[Any, Any]] = set()
        self.free: set[int] = set()
        self.observed: set[int] = set()
        self.branches = 0
        self.truncated_after: Counter[int] = Counter()
        self.outlasted = 0
        self._truncates = False
        self._clear()

    def _clear(self) -> None:
        """Forget all nodes."""
        self.snapshots: list[Snapshot] = []
        self._states: list[int] = []
        self._moves: list[list[dict[Outcome, float]]] = []
        self._known: dict[Any, int] = {}
        self._buckets: dict[Any, list[int]] = {}
        self._distinct: set[int] = set()
        self._sought_observed = bool(self.observed)

    @property
    def seconds(self) -> float:
        """The CPU time since the walk began, by which a busy machine finds the same table as an idle one.

        At least a quarter of the time on the clock, as an environment may wait for something.
        """
        computed, passed = time.process_time() - self._began[0], time.monotonic() - self._began[1]
        return max(computed, passed / WAITED)

    def exact(self) -> None:
        """Take every part that changes for one that matters; the next walk begins with that."""
        self._may_merge = False
        self.free, self.observed = set(), set()

    @property
    def merged(self) -> bool:
        """Whether parts were left out."""
        return bool(self.free or self.observed)

    def run(self) -> Graph:
        """Walk through all states.

        Raises:
            NotDiscoverableError: its chance cannot be enumerated, it cannot be copied, or a limit is met.
        """
        with self.stand_ins.everywhere():
            if not self._pool:
                self._rehearse()
            while True:
                try:
                    return self._walk()
                except RestartError:
                    self._restarts += 1
                    if self._restarts > RESTARTS:
                        raise NotDiscoverableError("it keeps changing what matters in its states") from None

    def _rehearse(self) -> None:
        """Play at random, to see which attributes change; gather snapshots."""
        self._reset(self._luck)
        self.box.begin()
        found: dict[Attribute, Any] = self.box.fingerprints()
        large = {place for place, value in found.items() if type(value) not in VALUES and len(value) > LARGE}
        for played, _ in self._play(COMPARED):
            skip = set() if played % SELDOM == 0 else large
            self._compare(found, self.box.fingerprints(skip | self._changing))
        self._compare(found, self.box.fingerprints(self._changing))
        self._constant = {place: value for place, value in found.items() if place not in self._changing}
        self._watch()

    def _compare(self, found: dict[Attribute, Any], now: dict[Attribute, Any]) -> None:
        """Note which attributes have changed since they were found."""
        for place, value in now.items():
            if place not in found or type(found[place]) is not type(value) or found[place] != value:
                self._changing.add(place)

    def _watch(self) -> None:
        """Begin to hold what changes in snapshots, and gather some."""
        self._reset(self._luck)
        self.box.watch(self._changing)
        self._count = sum(1 for _ in self.box.attributes())
        self._fresh = self.box.save()
        self._pool = []
        self.free, self.observed = set(), set()
        for _, over in self._play(PLAYED):
            if not over:
                self._pool.append((self._state, self.box.save()))
        if self._may_merge:
            self.free = self._find_free()
        self._check_resets()
        self._clear()

    def _play(self, count: int) -> Iterator[tuple[int, bool]]:
        """Play `count` random steps, in `PLAYED_SECONDS` at most; yield after each, with whether it ended its episode.

        Every other episode is cut short: some that end rarely show only when they begin what changes.
        """
        until, episode, steps = self.seconds + PLAYED_SECONDS, 0, 0
        self._reset(self._luck)
        for played in range(count):
            if self.seconds > until:
                return
            self._tape.rewind((), self._luck)
            try:
                result, truncated = self._step(self._luck.randrange(self._actions))
                over = truncated or result.terminated
                steps += 1
            except PrunedError:
                truncated, over = False, True
            if truncated:
                self.truncated_after[steps] += 1
            elif not over:
                self.outlasted = max(self.outlasted, steps)
            yield played, over
            if over or (episode % 2 == 0 and steps == SHORT) or steps == LONGEST_EPISODE:
                self._reset(self._luck)
                episode, steps = episode + 1, 0

    def _reset(self, generator: Random | None) -> Result:
        """Reset the environment; draw with `generator`, unless the tape is being read.

        Raises:
            NotDiscoverableError: it draws so much that every outcome is too improbable to be followed, as the order of
                a deck of cards is.
        """
        until = self.seconds + PLAYED_SECONDS
        for tried in itertools.count(1):
            if generator is not None:
                self._tape.rewind((), generator)
            try:
                observation, _ = self._top.reset()
                break
            except PrunedError:
                if generator is None:
                    raise
                if tried == RESETS or self.seconds > until:
                    raise NotDiscoverableError(
                        f"its chance is too wide: all that reset() draws was rarer than {NEGLIGIBLE:g} in {tried:,} of "
                        f"{tried:,} tries"
                    ) from None
        self._state = self._codec.encode(observation)
        return Result(self._state, 0.0, False)

    def _step(self, action: int) -> tuple[Result, bool]:
        """Step the environment; return also whether it truncated the episode by itself."""
        observation, reward, terminated, truncated, _ = self._top.step(action + self._first_action)
        if type(reward) is not float:
            reward = float(reward if isinstance(reward, Uniform) else finite(reward))  # of a Uniform an error
        if terminated is not True and terminated is not False:
            terminated = truth("terminated", terminated)
        self._state = self._codec.encode(observation)
        return Result(self._state, reward, terminated), bool(truncated)

    def _act(self, snapshot: Snapshot, action: int | None) -> Result:
        """Take an action, or reset, from a snapshot; the tape is rewound already."""
        self.box.restore(snapshot)
        if action is None:
            return self._reset(None)
        result, truncated = self._step(action)
        if truncated:
            self._truncates = True
        return result

    def _after(self, result: Result) -> Snapshot | None:
        """Return the snapshot after a step; None where the episode is over."""
        return None if result.terminated else self.box.save()

    # Trials

    def _agree(
        self, one: Snapshot, other: Snapshot, action: int | None, ignored: set[int], scripts: int
    ) -> set[Any] | None:
        """Compare an action from two snapshots in random sequences of draws.

        Returns:
            The sequences; None if they differ in one.
        """
        tried: set[Any] = set()
        for _ in range(scripts):
            self._tape.rewind((), self._luck)
            with suppress(PrunedError):
                result = self._act(one, action)
                after, script = self._after(result), self._tape.taken
                if tuple(script) in tried:
                    if not script:
                        break
                    continue
                if not self._same(other, action, ignored, (script, self._tape.counts, result, after)):
                    return None
                tried.add(tuple(script))
        return tried

    def _same(self, other: Snapshot, action: int | None, ignored: set[int], seen: Any) -> bool:
        """Whether an action from a snapshot does, on the same draws, what was seen elsewhere."""
        script, counts, result, after = seen
        self.branches += 1
        self._tape.rewind(script)
        try:
            found = self._act(other, action)
        except (PrunedError, Exception):  # an impossible combination of attributes may break it
            return False
        if found != result or self._tape.counts != counts:
            return False
        if after is None:
            return True
        reached = self.box.save()
        return all(a == b for i, (a, b) in enumerate(zip(after, reached, strict=True)) if i not in ignored)

    def _check_resets(self) -> None:
        """Refuse an environment whose resets depend on what was before."""
        for _, snapshot in self._luck.sample(self._pool, min(10, len(self._pool))):
            for part in range(len(self.box.parts)):
                if self._agree(self._fresh, exchange(self._fresh, part, snapshot), None, self.free, 2) is None:
                    raise NotDiscoverableError(
                        f"its resets depend on the episode before: on {self.box.show(part, snapshot[part])}"
                    )

    def _find_free(self) -> set[int]:
        """Return the parts whose values can be exchanged without any change, by trials on the pool."""
        free: set[int] = set()
        while True:
            before = len(free)
            for part in set(range(len(self.box.parts))) - free:
                if self._exchangeable(part, free, self._pairs(part), 2):
                    free.add(part)
            if len(free) == before:
                return free

    def _pairs(self, part: int, same_state: bool = False, pool: Sequence[tuple[int, Snapshot]] | None = None) -> Any:
        """Return pairs of snapshots that differ in a part, and, if asked for, show the same observation."""
        pool = self._pool if pool is None else pool
        groups: dict[int, list[Snapshot]] = {}
        for state, snapshot in pool:
            groups.setdefault(state if same_state else 0, []).append(snapshot)
        pairs = []
        for group in list(groups.values()) * (1 if same_state else PAIRS):
            one, other = self._luck.choice(group), self._luck.choice(group)
            if one[part] != other[part]:
                pairs.append((one, other))
        return pairs[: 3 * PAIRS]

    def _exchangeable(self, part: int, ignored: set[int], pairs: Any, scripts: int) -> bool:
        """Whether values of a part can be exchanged within the pairs without any change to what is not ignored."""
        for one, other in pairs:
            self._check_limits()
            for action in range(self._actions):
                if self._agree(one, exchange(one, part, other), action, ignored | {part}, scripts) is None:
                    return False
        return bool(pairs)

    def _seek_observed(self) -> None:
        """Look for observed parts, and begin again if there are any."""
        self._sought_observed = True
        pool = list(zip(self._states, self.snapshots, strict=True))
        for part in set(range(len(self.box.parts))) - self.free:
            pairs = self._pairs(part, same_state=True, pool=pool)
            if self._exchangeable(part, self.free | self.observed, pairs, SCRIPTS):
                self.observed.add(part)
        if self.observed:
            raise RestartError

    # The walk

    def _walk(self) -> Graph:
        """Visit all nodes."""
        self._clear()
        start: dict[int, float] = {}
        for probability, result in self._runs(self._fresh, None):
            node = self._node(result.state, self.box.save())
            start[node] = start.get(node, 0.0) + probability
        while len(self._moves) < len(self._states):
            self._moves.append(self._expand(len(self._moves)))
        self._check_constants()
        return Graph(self._states, self._moves, start)

    def _expand(self, node: int) -> list[dict[Outcome, float]]:
        """Return the outcomes of every action in a node."""
        snapshot, rows = self.snapshots[node], []
        for action in range(self._actions):
            row: dict[Outcome, float] = {}
            seen: Any = None
            for probability, result in self._runs(snapshot, action):
                script, counts = self._tape.taken, self._tape.counts
                after = self._after(result)
                target = result.state if after is None else self._node(result.state, after)
                key = (target, result.reward, result.terminated)
                row[key] = row.get(key, 0.0) + probability
                if seen is None or self._luck.random() < SHARE:
                    seen = (script, counts, result, after)
            if self.free:
                self._try_free(snapshot, action, seen)
            rows.append(row)
        return rows

    def _try_free(self, snapshot: Snapshot, action: int, seen: Any) -> None:
        """Exchange all free parts once more; begin again if something changes."""
        other = self._luck.choice(self._pool)[1]
        if self._same(exchange_all(snapshot, self.free, other), action, self.free, seen):
            return
        culprits = {
            part for part in self.free if not self._same(exchange(snapshot, part, other), action, self.free, seen)
        }
        self.free -= culprits or set(self.free)
        raise RestartError

    def _node(self, state: int, snapshot: Snapshot) -> int:
        """Return the node of a snapshot, which may be new."""
        left_out = self.free | self.observed
        key = (
            (state, *(value for part, value in enumerate(snapshot) if part not in left_out))
            if left_out
            else (state, *snapshot)
        )
        if not self.observed:
            node = self._known.get(key)
            return self._add(key, state, snapshot) if node is None else node
        values = tuple(snapshot[part] for part in sorted(self.observed))
        node = self._known.get((key, values))
        if node is None:
            node = next((n for n in self._buckets.get(key, ()) if self._is_same_node(n, values, snapshot)), None)
            if node is None:
                node = self._add((key, values), state, snapshot)
                self._buckets.setdefault(key, []).append(node)
            self._known[key, values] = node
        return node

    def _is_same_node(self, node: int, values: Any, snapshot: Snapshot) -> bool:
        """Whether a snapshot that differs from a node in observed parts has the same future."""
        one = self.snapshots[node]
        pair = (tuple(one[part] for part in sorted(self.observed)), values)
        agreed = self._agreed.get(pair, 0)
        if pair in self._apart or agreed >= ENOUGH:
            return agreed >= ENOUGH
        for action in range(self._actions):
            tried = self._agree(one, snapshot, action, self.free | self.observed, SCRIPTS)
            if tried is None:
                self._apart.add(pair)
                if agreed:
                    raise RestartError
                return False
            agreed += len(tried)
        self._agreed[pair] = agreed
        return True

    def _add(self, key: Any, state: int, snapshot: Snapshot) -> int:
        """Add a node."""
        if sum(1 for _ in self.box.attributes()) != self._count:
            self._changing |= {place for place, _ in self.box.attributes()} - self._constant.keys()
            self._rewatch()
        node = self._known[key] = len(self._states)
        self._states.append(state)
        self.snapshots.append(snapshot)
        self._distinct.add(state)
        self._check_limits()
        crowded = node > MANY and node > TIMES * len(self._distinct)
        if crowded and not self._sought_observed and self._may_merge:
            self._seek_observed()
        return node

    def _check_constants(self) -> None:
        """Begin again if an attribute has changed that seemed not to."""
        now = self.box.fingerprints(self._changing)
        before = len(self._changing)
        self._compare(self._constant, now)
        if len(self._changing) > before:
            self._constant = {place: value for place, value in now.items() if place not in self._changing}
            self._rewatch()

    def _rewatch(self) -> NoReturn:
        """Hold more attributes in snapshots, and begin again."""
        self._watch()
        raise RestartError

    def _runs(self, snapshot: Snapshot, action: int | None) -> Iterator[tuple[float, Result]]:
        """Yield every run of an action, or a reset, with its probability."""
        made, covered = 0, 0.0
        for probability, result in enumerate_runs(self._tape, lambda: self._counted(snapshot, action)):
            yield probability, result
            made, covered = made + 1, covered + probability
            if made >= PREDICTED[0] and made % PREDICTED[0] == 0:
                self._check_limits(self.branches - made + made / covered)

    def _counted(self, snapshot: Snapshot, action: int | None) -> Result:
        """Take an action, or reset, as one branch, whether or not it is followed to its end."""
        self.branches += 1
        if self.branches % 256 == 0:
            self._check_limits()
        return self._act(snapshot, action)

    def _check_limits(self, predicted: float = 0.0) -> None:
        """Raise if a limit is met, or will be; report progress.

        Args:
            predicted: a number of branches to come to, for all that is known.

        Raises:
            NotDiscoverableError: a limit is met; the message says which, and how far the walk had come.
        """
        done, seen, seconds = len(self._moves), len(self._states), self.seconds
        if seconds > self._reported_at:
            self._progress(f"{len(self._distinct):,} states, {self.branches:,} branches")
            self._reported_at = seconds + REPORT_EVERY
        if done >= PREDICTED[1]:
            predicted = max(predicted, self.branches * seen / done)
        soon = predicted > PREDICTED_TIMES * self._limits.branches
        met = (
            f"{self._limits.states:,} states" if seen > self._limits.states else
            f"{self._limits.branches:,} branches" if self.branches > self._limits.branches else
            f"{self._limits.branches:,} branches ({predicted:,.0f} or more are to come)" if soon else
            f"{self._limits.seconds:g} seconds" if seconds > self._limits.seconds else None
        )  # fmt: skip
        if met is None:
            return
        kept = f" in {seen:,} variants" if seen > len(self._distinct) else ""
        counts = (
            f"; it truncates episodes by itself, after {min(self.truncated_after)} steps"
            if self.truncated_after
            else ""
        )
        raise NotDiscoverableError(
            f"the walk through its states met its limit of {met}: it had seen {len(self._distinct):,} states{kept}, "
            f"{done:,} of them with every action, in {self.branches:,} branches and {seconds:.1f} s{counts}"
        )

    def seek_truncation(self) -> None:
        """Play more random episodes if the environment truncates some by itself, to see after how many steps, twice.

        Raises:
            NotDiscoverableError: it does not do so in random episodes.
        """
        with self.stand_ins.everywhere():
            for _ in range(20):
                if not self._truncates or self.truncated_after.total() > 1:
                    return
                for _ in self._play(PLAYED):
                    pass
        raise NotDiscoverableError("it truncates episodes by itself, and random ones do not show after how many steps")

    def confirm(self, graph: Graph, share: float = 0.2) -> None:
        """Compare whole steps from snapshots of random episodes with the nodes they were taken for.

        Raises:
            RestartError: they differ.
        """
        until = self.seconds + max(0.5, share * self.seconds)
        with self.stand_ins.everywhere():
            for state, snapshot in self._luck.sample(self._pool, len(self._pool)):
                if self.seconds > until:
                    return
                node = self._node(state, snapshot)
                if node >= len(self._moves):
                    raise NotDiscoverableError("its random episodes come to states that the walk did not reach")
                for action in range(self._actions):
                    row: dict[Any, float] = {}
                    for probability, result in enumerate_runs(self._tape, lambda: self._act(snapshot, action)):  # noqa: B023
                        row[result] = row.get(result, 0.0) + probability
                    expected: dict[Any, float] = {}
                    for (target, reward, terminated), probability in graph.moves[node][action].items():
                        result = Result(target if terminated else self._states[target], reward, terminated)
                        expected[result] = expected.get(result, 0.0) + probability
                    if row.keys() != expected.keys() or any(abs(row[r] - expected[r]) > 1e-9 for r in row):
                        raise NotDiscoverableError("parts of its state that seemed not to matter do")


SHARE = 0.25  # of the runs of a step after the first, one of which is tried with other values of free parts


def exchange(snapshot: Snapshot, part: int, other: Snapshot) -> Snapshot:
    """Return a snapshot with one part of another."""
    return (*snapshot[:part], other[part], *snapshot[part + 1 :])


def exchange_all(snapshot: Snapshot, parts: set[int], other: Snapshot) -> Snapshot:
    """Return a snapshot with several parts of another."""
    return tuple([other[i] if i in parts else value for i, value in enumerate(snapshot)])
