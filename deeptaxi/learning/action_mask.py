"""The allowed actions of every state, known from the start or gathered from ``info["action_mask"]`` on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.learning.state import TrainingState, array
from deeptaxi.mdp.contract import blaming, closing
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.masks import is_mask, known_mask, usable


def shows_mask(environment: Environment) -> bool:
    """Whether the environment gives ``info["action_mask"]`` when it is reset."""
    with blaming(environment.config.id), closing(environment.make()) as env:
        return "action_mask" in env.reset(seed=0)[1]


class ActionMaskTable:
    """A mask `[S, A]`, True where an action is allowed. States that were never seen allow everything.

    Args:
        environment: whose mask it is.
        active: whether the mask is used at all; if not, everything is allowed.

    Raises:
        UsageError: the mask is asked for, and the environment has none.
    """

    def __init__(self, environment: Environment, active: bool) -> None:
        self._active = active
        self._known = known_mask(environment) if active else None
        self._name = environment.config.id
        if active and self._known is None and not shows_mask(environment):
            missing = "has no array 'action_mask'" if self._name.endswith(".npz") else "gives no info['action_mask']"
            raise UsageError(f"--action-mask: {self._name} {missing}")
        shape = (environment.states, environment.actions)
        self._allowed = np.ones(shape, np.bool_) if self._known is None else self._known
        self._seen = np.full(environment.states, self._known is not None)
        self._all = np.ones((0, environment.actions), np.bool_)

    @property
    def gathers(self) -> bool:
        """Whether the mask is taken from ``info["action_mask"]`` on the way."""
        return self._active and self._known is None

    @property
    def known(self) -> int:
        """The number of states whose mask is known by now: it changes when the mask does."""
        return int(self._seen.sum())

    @property
    def allowed(self) -> NDArray[np.bool_] | None:
        """The mask `[S, A]`, or None where it is not used."""
        return self._allowed if self._active else None

    def state_dict(self) -> TrainingState:
        """Return what was gathered on the way, `allowed` `[S, A]` and `seen` `[S]`; nothing where all is known."""
        gathered = {"masks.allowed": self._allowed.copy(), "masks.seen": self._seen.copy()} if self.gathers else {}
        return TrainingState(gathered, {})

    def load_state_dict(self, saved: TrainingState) -> None:
        """Know what had been gathered."""
        if self._active and self._known is None:
            self._allowed = array(saved, "masks.allowed", self._allowed.shape, np.bool_).copy()
            self._seen = array(saved, "masks.seen", self._seen.shape, np.bool_).copy()

    def of(self, states: NDArray[Any]) -> NDArray[np.bool_]:
        """Return the allowed actions of `states` `[B]`, `[B, A]`."""
        if self._active:
            return self._allowed[states]
        if len(self._all) != len(states):
            self._all = np.ones((len(states), self._all.shape[1]), np.bool_)
        return self._all

    def note(self, states: NDArray[Any], info: dict[str, Any]) -> None:
        """Enter what a vector environment's `info` says of `states` `[N]`.

        Raises:
            DeepTaxiError: it has no mask, or one that contradicts what was seen before, so the mask is no function of
                the state.
        """
        if not self._active or self._known is not None:
            return
        if "action_mask" not in info:
            raise DeepTaxiError(f"--action-mask: {self._name} gives info['action_mask'] at times only")
        given = np.asarray(info["action_mask"])
        present = np.asarray(info.get("_action_mask", np.ones(len(states), np.bool_)))
        if given.shape != (len(states), self._allowed.shape[1]):
            raise DeepTaxiError(f"--action-mask: {self._name} gives a mask of shape {list(given.shape[1:])}")
        if not is_mask(given[present], given[present].shape):
            raise DeepTaxiError(f"--action-mask: {self._name} gives a mask of something else than 0 and 1")
        for state, row in zip(states[present], usable(given[present].astype(np.bool_)), strict=True):
            if self._seen[state] and not np.array_equal(self._allowed[state], row):
                raise DeepTaxiError(f"--action-mask: {self._name} masks state {state} in more than one way")
            self._allowed[state], self._seen[state] = row, True
