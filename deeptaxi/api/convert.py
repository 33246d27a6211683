"""Convert tables of others to deeptaxi's: `convert`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeptaxi.api.environments import EnvLike, EnvSpec
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.status import status
from deeptaxi.errors import UsageError
from deeptaxi.io.atomic import check_free, write_atomic
from deeptaxi.mdp.files.outcomes import ReadOptions, Source, Start
from deeptaxi.mdp.files.read import change_table, is_foreign
from deeptaxi.mdp.table import Bools, TransitionTable, save_table

if TYPE_CHECKING:
    from rich.console import RenderableType

ENDING = ".npz"


@dataclass(frozen=True, repr=False)
class Conversion(RichRepr):
    """A table that was converted.

    Attributes:
        source: the name of the file or value.
        path: the file that was written, or None.
        table: the table.
        read_as: the form of the source, and what was decided in reading it.
    """

    source: str
    path: Path | None
    table: TransitionTable
    read_as: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi convert --json` prints."""
        from deeptaxi.evaluation.resampling import describe_log

        table = self.table
        mask, estimated, possible = table.action_mask, describe_log(table), possible_outcomes(table)
        return {
            "source": self.source,
            "path": None if self.path is None else str(self.path),
            "form": self.read_as[0] if self.read_as else None,
            "notes": list(self.read_as[1:]),
            "states": table.states,
            "actions": table.actions,
            "outcomes": int(possible.sum()),
            "most_outcomes": table.probability.shape[2],
            "start_states": int((table.start > 0).sum()),
            "terminating_outcomes": int((table.terminated & possible).sum()),
            "forbidden_pairs": 0 if mask is None else int((~mask).sum()),
            "time_limit": table.time_limit,
            "discount": table.discount,
            "exact": estimated is None,
            "estimated": None if estimated is None else asdict(estimated),
        }

    def __repr__(self) -> str:
        written = "" if self.path is None else f" in {self.path}"
        return f"Conversion({self.source}{written}: {self.table!r})"

    def __rich__(self) -> RenderableType:
        from deeptaxi.display import tables

        return tables.conversion_table(self.to_dict())


def convert(
    source: EnvLike,
    path: str | Path | None = None,
    *,
    start: Start = None,
    discount: float | None = None,
    time_limit: int | None = None,
    prior: float | None = None,
    goal: str | None = None,
    end_absorbing: bool = False,
    env_args: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Conversion:
    """Convert a table of another form to deeptaxi's, and write it as a `.npz`.

    Args:
        source: a file (`.npz`, `.mat`, `.json`, `.jsonl`, `.csv`, `.tsv`, `.parquet`, `.tra`, `.mdp`); `P` as a dict or
            list; arrays (P, R), or lists of sparse matrices; a data frame of rows; a `TransitionTable`; or an
            environment that has a table.
        path: the `.npz` to write; None for none.
        start: a state's number or name, several with commas, "uniform", or a distribution `[S]`; None for the source's
            own, else uniform over all states that are not ends.
        discount: the discount that the problem is meant with.
        time_limit: steps before an episode is cut.
        prior: α of the Dirichlet prior of logged data; None for 0.
        goal: label of the states that end the episode, in PRISM's files.
        end_absorbing: whether to end episodes where no action leaves a state or earns anything.
        env_args: arguments for `gymnasium.make`, of an environment.
        force: whether to overwrite the file.

    Returns:
        The conversion: `table`, `read_as`, …

    Raises:
        UsageError: the source does not exist or has no table, an option does not fit it, or `path` is taken.
        DeepTaxiError: the source is damaged, or not a decision process; the message names the line.
    """
    target = None if path is None else Path(path)
    if target is not None:
        check_target(target, source, force)
    asked = {"start": start, "discount": discount, "time_limit": time_limit, "prior": prior, "goal": goal}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if end_absorbing:
        given["end_absorbing"] = True
    foreign = is_foreign(source)
    with status("reading …"):
        environment = EnvSpec(source, {**(env_args or {}), **(given if foreign else {})}).open()
    table = environment.table
    if table is None:
        raise UsageError(f"{environment.config.id} has no true table to write: {environment.table_missing}")
    if environment.time_limit and not table.time_limit:
        table = replace(table, time_limit=environment.time_limit)
    if not foreign:
        table = change_table(Source(environment.config.id), table, ReadOptions(**given))
    if target is not None:
        with write_atomic(target, force) as aside:
            save_table(table, aside)
    return Conversion(environment.config.id, target, table, environment.read_as)


def possible_outcomes(table: TransitionTable) -> Bools:
    """Mark the outcomes that can happen, `[S, A, K]`: of actions that may be taken, in states that are not ends."""
    possible: Bools = np.asarray(table.probability > 0)
    if table.action_mask is not None:
        possible = possible & table.action_mask[..., None]
    stays = table.next_state == np.arange(table.states)[:, None, None]
    idle = ((stays & table.terminated & (table.reward == 0)) | ~possible).all(axis=(1, 2))
    return np.asarray(possible & ~idle[:, None, None])


def check_target(target: Path, source: EnvLike, force: bool) -> None:
    """Reject a file that cannot be written, before anything is read.

    Raises:
        UsageError: its name does not end in `.npz`, it exists, or it is the source itself.
    """
    if target.suffix != ENDING:
        raise UsageError(f"{target}: expected a name that ends in {ENDING}")
    if isinstance(source, str | Path) and target.resolve() == Path(source).resolve():
        raise UsageError(f"{target} is the source itself; choose another name")
    check_free(target, force, replaceable=target.is_file(), option="name")
