"""The allowed actions of each state, known in advance or collected as the environment shows them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.learning.state import TrainingState, array
from deeptaxi.mdp.contract import ShownMask, blaming, closing
from deeptaxi.mdp.environment import Environment, is_mask, known_mask, usable
from deeptaxi.mdp.files import is_table_file


def shows_mask(environment: Environment) -> bool:
    """Return whether the environment shows an action mask on reset, see `ShownMask`."""
    with blaming(environment.config.id), closing(environment.make()) as env:
        info = env.reset(seed=0)[1]
        return ShownMask(env, environment.action_codec)(info) is not None


class ActionMaskTable:
    """A mask `[S, A]`, True where an action is allowed. Unseen states allow everything.

    So does the state of all observations that have no number of their own, whose masks differ.

    Args:
        environment: the environment.
        active: whether to use the mask; if not, everything is allowed.

    Raises:
        UsageError: the mask is requested, but the environment has none.
    """

    def __init__(self, environment: Environment, active: bool) -> None:
        if active and not environment.tabulated:
            raise UsageError(
                f"--action-mask is a table over all states, and {environment.config.id} has too many for one"
            )
        self._active = active
        self._known = known_mask(environment) if active else None
        self._name = environment.config.id
        self._shared_state = environment.numbering.shared_state if environment.numbering is not None else None
        if active and self._known is None and not shows_mask(environment):
            missing = "has no array 'action_mask'"
            if not is_table_file(self._name):
                missing = "shows none, neither in info['action_mask'] nor by a method action_mask"
            raise UsageError(f"--action-mask: {self._name} {missing}")
        shape = (environment.states if environment.tabulated else 0, environment.actions)
        self._allowed = np.ones(shape, np.bool_) if self._known is None else self._known
        self._seen = np.full(shape[0], self._known is not None)
        self._count = int(self._seen.sum())  # asked at every step, where a sum takes as long as a million states do
        self._all = np.ones((0, environment.actions), np.bool_)

    @property
    def gathers(self) -> bool:
        """Whether the mask is collected during training, as the environment shows it."""
        return self._active and self._known is None

    @property
    def known(self) -> int:
        """The number of states whose mask is known so far; it changes whenever the mask does."""
        return self._count

    @property
    def allowed(self) -> NDArray[np.bool_] | None:
        """The mask `[S, A]`, or None if it is not used."""
        return self._allowed if self._active else None

    def state_dict(self) -> TrainingState:
        """Return the collected mask, `allowed` `[S, A]` and `seen` `[S]`; empty if it was known in advance."""
        gathered = {"masks.allowed": self._allowed.copy(), "masks.seen": self._seen.copy()} if self.gathers else {}
        return TrainingState(gathered, {})

    def load_state_dict(self, saved: TrainingState) -> None:
        """Restore the collected mask."""
        if self._active and self._known is None:
            self._allowed = array(saved, "masks.allowed", self._allowed.shape, np.bool_).copy()
            self._seen = array(saved, "masks.seen", self._seen.shape, np.bool_).copy()
            self._count = int(self._seen.sum())

    def of(self, states: NDArray[Any]) -> NDArray[np.bool_]:
        """Return the allowed actions `[B, A]` of `states` `[B]`, or `[B, K, A]` of `[B, K]`."""
        if self._active:
            return np.asarray(self._allowed[states])
        if states.ndim > 1:
            return np.ones((*states.shape, self._all.shape[1]), np.bool_)
        if len(self._all) != len(states):
            self._all = np.ones((len(states), self._all.shape[1]), np.bool_)
        return self._all

    def note(self, states: NDArray[Any], info: dict[str, Any]) -> None:
        """Record the masks of `states` `[N]` from a vector environment's `info`.

        Raises:
            DeepTaxiError: there is no mask, or it contradicts an earlier one, so it is not a function of the state.
        """
        if not self._active or self._known is not None:
            return
        if "action_mask" not in info:
            raise DeepTaxiError(f"--action-mask: {self._name} provides info['action_mask'] only sometimes")
        given = np.asarray(info["action_mask"])
        present = np.asarray(info.get("_action_mask", np.ones(len(states), np.bool_)))
        if given.shape != (len(states), self._allowed.shape[1]):
            raise DeepTaxiError(f"--action-mask: {self._name} gives a mask of shape {list(given.shape[1:])}")
        if not is_mask(given[present], given[present].shape):
            raise DeepTaxiError(f"--action-mask: {self._name} gives a mask of values other than 0 and 1")
        for state, row in zip(states[present], usable(given[present].astype(np.bool_)), strict=True):
            if state == self._shared_state:
                continue
            if self._seen[state] and not np.array_equal(self._allowed[state], row):
                raise DeepTaxiError(f"--action-mask: {self._name} masks state {state} in more than one way")
            self._count += not self._seen[state]
            self._allowed[state], self._seen[state] = row, True
