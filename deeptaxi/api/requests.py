"""What is asked of an explanation. Imports neither NumPy nor Gymnasium."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deeptaxi.api.settings import Config
from deeptaxi.errors import UsageError

if TYPE_CHECKING:
    from deeptaxi.api.places import Place


@dataclass(frozen=True)
class Request:
    """Of which network: settings as `train` takes them, `given` those by themselves, nested."""

    env: Place | None = None
    env_args: Mapping[str, Any] = field(default_factory=dict)
    config: Config | None = None
    preset: str | None = None
    q_table: bool = False
    trust_env: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """Which update is asked for; at most one of a pair, transitions, or a random one."""

    state: int | None
    action: int | None
    transitions: tuple[tuple[Any, ...], ...]
    seed: int | None

    def check(self, at_random: bool = False) -> None:
        """Refuse wishes that exclude each other.

        Raises:
            UsageError: two of them are given.
        """
        if self.action is not None and self.state is None:
            raise UsageError("--action needs the state that it is taken in: add --state S")
        given = {"--state": self.state is not None, "--transition": bool(self.transitions), "--random": at_random}
        names = [name for name, is_given in given.items() if is_given]
        if len(names) > 1:
            raise UsageError(f"{' and '.join(names)} each say which transition it is: give one of them")
