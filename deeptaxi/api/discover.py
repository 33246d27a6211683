"""Discover the transition table of an environment that has none: `discover`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeptaxi.api.environments import EnvLike, EnvSpec
from deeptaxi.api.status import status
from deeptaxi.arguments import title
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.io.atomic import check_free, write_atomic
from deeptaxi.mdp import discovery as walks
from deeptaxi.mdp.chance import NotDiscoverableError
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.numbering import NumberingCodec
from deeptaxi.mdp.table import TransitionTable, save_table
from deeptaxi.mdp.walk import Limits

LIMITS = Limits()


@dataclass(frozen=True, eq=False, repr=False)
class Discovered:
    """A discovered table, and what was found on the way.

    Attributes:
        environment: the environment; its own table, if it has one, was not looked at.
        found: the table and the counts of the walk.
        path: the file that the table was written to, or None.
    """

    environment: Environment
    found: walks.Discovery
    path: Path | None

    @property
    def table(self) -> TransitionTable:
        """The exact table."""
        return self.found.table

    @property
    def remark(self) -> str | None:
        """What the observations hide, if anything, and what that means for the table."""
        found = self.found
        if found.hidden is None:
            return None
        needs = (
            "what is optimal depends on it, so no policy of observations alone attains the table's optimum"
            if found.policy_needs_hidden
            else "an optimal policy need not know it"
        )
        states = "state" if found.split == 1 else "states"
        return (
            f"{found.hidden}; the table has {found.split:,} more {states} than the observations tell apart, and {needs}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi discover --json` prints."""
        found, table = self.found, self.found.table
        return {
            "environment": self.environment.describe(),
            "table": None if self.path is None else str(self.path),
            "states": found.states,
            "table_states": table.states,
            "actions": table.actions,
            "start_states": int((table.start > 0).sum()),
            "most_outcomes": int((table.probability > 0).sum(axis=-1).max()),
            "time_limit": found.time_limit,
            "snapshots": found.snapshots,
            "branches": found.branches,
            "seconds": found.seconds,
            "ignored_attributes": list(found.ignored),
            "hidden": self.remark,
            "split_states": found.split,
            "policy_needs_hidden": found.policy_needs_hidden,
        }

    def __repr__(self) -> str:
        counts = f"{self.found.states:,} states, {self.found.branches:,} branches in {self.found.seconds:.1f} s"
        return f"Discovered({title(self.environment.describe())}: {counts})"


def discover(
    env: EnvLike,
    *,
    env_args: Mapping[str, Any] | None = None,
    time_limit: int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    split: bool = False,
    reachable: bool = False,
    max_states: int = LIMITS.states,
    max_branches: int = LIMITS.branches,
    max_seconds: float = LIMITS.seconds,
) -> Discovered:
    """Discover the exact transition table of an environment by walking through all its states.

    Args:
        env: an environment, as `train` takes it.
        env_args: arguments for `gymnasium.make`.
        time_limit: steps after which an episode is truncated, instead of the environment's own limit.
        out: the `.npz` file to write the table to, for use as the environment of any command.
        force: whether to overwrite that file.
        split: whether to make states of what observations hide, even if what is optimal depends on it.
        reachable: whether to number only the observations that the walk comes to, in their order, instead of all.
        max_states: where to end the walk.
        max_branches: steps and resets to run at most, one for each sequence of draws.
        max_seconds: CPU time to take at most; waiting counts a quarter.

    Returns:
        The table, `.table`, and the counts of the walk.

    Raises:
        UsageError: the environment does not exist or is a table itself, or `out` cannot be written.
        DeepTaxiError: it has no table that can be found so; the message is the reason.
    """
    if not max_seconds > 0 or max_states < 1 or max_branches < 1:
        raise UsageError(
            f"max_seconds = {max_seconds}, max_states = {max_states}, max_branches = {max_branches}: "
            "expected numbers above 0"
        )
    path = None if out is None else Path(out)
    if path is not None:
        check_out(path, force)
    environment = EnvSpec(env, env_args or {}, time_limit, discover=False).open()
    if environment.table is not None and is_table(environment):
        raise UsageError(f"{environment.config.id} is a transition table already: there is nothing to discover")
    if reachable and environment.numbering is None:
        environment = environment.with_codec(NumberingCodec(environment.codec.space, environment.codec.view))
    with status("discovering the transition table …") as update:
        found = found_within(environment, Limits(max_states, max_branches, max_seconds), update)
    if found.hidden is not None and found.policy_needs_hidden and not split:
        raise DeepTaxiError(
            f"{environment.config.id} has no table of its observations: {found.hidden}, and what is optimal depends on "
            f"it; --split makes it part of the state ({found.table.states:,} states)"
        )
    if environment.numbering is not None:
        environment = environment.with_codec(found.codec)
    if path is not None:
        with write_atomic(path, force) as aside:
            save_table(found.table, aside)
    return Discovered(environment, found, path)


def found_within(environment: Environment, limits: Limits, update: Any) -> walks.Discovery:
    """Discover the table of an environment; report progress to `update`.

    Raises:
        DeepTaxiError: it has no table that can be found so.
    """
    try:
        return walks.discover(
            environment, limits, lambda progress: update(f"discovering the transition table: {progress} …")
        )
    except NotDiscoverableError as error:
        limited = "its limit of" in str(error)
        hint = "; --max-seconds, --max-states and --max-branches raise the limits" if limited else ""
        raise DeepTaxiError(f"no table of {environment.config.id} was discovered: {error}{hint}") from None


def is_table(environment: Environment) -> bool:
    """Whether an environment is nothing but a table."""
    from deeptaxi.mdp.describe import inside
    from deeptaxi.mdp.simulate import TableEnv

    return isinstance(inside(environment.make()), TableEnv)


def check_out(out: Path, force: bool) -> None:
    """Reject an output file that cannot be written, before anything is computed.

    Raises:
        UsageError: its extension is not that of a table, or it exists.
    """
    if out.suffix != ".npz":
        raise UsageError(f"--out {out}: expected a name that ends in .npz")
    check_free(out, force, replaceable=out.is_file())
