"""The loop over real environments: several copies stepped together, then one update.

Order of one update, as the tests record it: choose actions by ε-greedy, step all copies, store the transitions, reset
the copies whose episode ended, draw a minibatch, update. The observation that follows a reset belongs to no transition.
Rewards are stored in units of the reward scale; the returns that are reported are in full.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from deeptaxi.config import TrainConfig
from deeptaxi.learning.learner import Learner
from deeptaxi.learning.loops.players import Players
from deeptaxi.learning.mask import MaskBook
from deeptaxi.learning.moment import Moment, fact, generator_state, merged, set_generator
from deeptaxi.learning.prioritized import PrioritizedReplay
from deeptaxi.learning.replay import Replay
from deeptaxi.learning.schedules import exploration
from deeptaxi.learning.ticks import Tick
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.foreign import closing


@dataclass
class Gatherer:
    """Lets the players step by the learner's ε-greedy actions, and stores what they did."""

    learner: Learner
    players: Players
    masks: MaskBook
    replay: Replay
    rng: np.random.Generator
    reward_scale: float

    def __call__(self, epsilon: float) -> list[float]:
        """Step every copy once; return the returns of the episodes that ended."""
        allowed = self.masks.of(self.players.states)
        draws = self.rng.random(len(allowed), np.float32)
        noise = self.rng.random(allowed.shape, np.float32)
        actions = self.learner.act(self.players.states, epsilon, draws, noise, allowed)
        transitions, returns = self.players.step(actions)
        np.add.at(self.learner.visits, (transitions.states, actions), 1)
        self.replay.add(transitions._replace(rewards=transitions.rewards / np.float32(self.reward_scale)))
        return returns


def build_replay(config: TrainConfig) -> Replay:
    """Build the replay memory of the configured kind."""
    common = (config.replay.capacity, config.interaction.environments, config.target.n_step, config.discount)
    if config.replay.prioritized:
        return PrioritizedReplay(*common, config.replay.priority_exponent, config.replay.importance_exponent)
    return Replay(*common)


class GymnasiumLoop:
    """Plays and updates.

    Args:
        config: the training.
        environment: what to play.
        learner: what acts and is updated.
        masks: the book of allowed actions.
        seeds: of all that happens in the loop.

    `remarks` are lines for the user, on what could not be done as it should be.
    """

    def __init__(
        self,
        config: TrainConfig,
        environment: Environment,
        learner: Learner,
        masks: MaskBook,
        seeds: np.random.SeedSequence,
    ) -> None:
        self.config = config
        self.environment = environment
        self.learner = learner
        self.masks = masks
        self.remarks: list[str] = []
        for_environments, for_exploration, for_replay = seeds.spawn(3)
        self._seeds = for_environments.generate_state(config.interaction.environments).tolist()
        self._exploring, self._drawing = np.random.default_rng(for_exploration), np.random.default_rng(for_replay)
        self._replay = learner.memory = build_replay(config)
        self._players: Players | None = None
        self._since: Moment | None = None

    def ticks(self, last: int) -> Generator[Tick]:
        """Run the updates that are left until `last`, one `Tick` an update."""
        config, replay = self.config, self._replay
        count, per_update = config.interaction.environments, config.interaction.steps_per_update
        returns: list[float] = []
        with closing(self.environment.make_vector(count, masks=self.masks.gathers)) as vector:
            players = self._players = self._begin(Players(self.environment, vector, self._seeds, self.masks))
            gather = Gatherer(self.learner, players, self.masks, replay, self._exploring, config.target.reward_scale)
            complete = count * (config.target.n_step - per_update)  # so that the first update finds something to draw
            while replay.added < max(complete, min(config.replay.start, replay.capacity)):
                returns += gather(config.exploration.start)
            for update in range(self.learner.updates, last):
                progress = update / config.schedule_length
                chance = exploration(config, progress)
                for _ in range(per_update):
                    returns += gather(chance)
                batch = replay.sample(config.replay.batch_size, self._drawing, progress)
                result = self.learner.update(batch, self.masks.of(batch.next_states))
                replay.learnt(result.td_errors)
                ended = (len(returns), sum(returns))
                yield Tick(update + 1, replay.added, chance, 1, result.loss, result.td_error, *ended)
                returns = []

    def moment(self) -> Moment:
        """Return what the loop is between two updates."""
        draws = {"exploring": generator_state(self._exploring), "drawing": generator_state(self._drawing)}
        players = self._players.moment() if self._players else Moment({}, {})
        return merged(self.learner.moment(), self._replay.moment(), players, Moment({}, draws))

    def restore(self, moment: Moment) -> None:
        """Go on from a moment; the players do so with the first tick.

        Raises:
            UnfitError: it is of another training.
        """
        self.learner.restore(moment)
        self._replay.restore(moment, self.environment.states, self.environment.actions)
        set_generator(self._exploring, fact(moment, "exploring", dict))
        set_generator(self._drawing, fact(moment, "drawing", dict))
        self._since = moment

    def _begin(self, players: Players) -> Players:
        """Let the players go on with the episodes that were under way."""
        if self._since is None:
            return players
        anew = players.restore(self._since)
        if anew:
            self._replay.cut(anew)
            self.remarks.append(
                f"{self.environment.config.id} keeps a state that seeds and actions do not bring back: "
                f"{len(anew)} of {len(self._seeds)} episodes begin anew, and the result is not that of an undisturbed "
                "training to the bit"
            )
        return players
