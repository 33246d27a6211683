"""Blackjack by its rules alone, with an infinite deck: a dynamic program over the hands, for what a walk discovers.

``python -m tests.mdp.blackjack`` walks through the game with all cards, which takes two minutes; the tests of discovery
walk through one with fewer cards, and hold this program to the values of the whole game.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from gymnasium.envs.toy_text import blackjack

CARDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10)
BOOK = -0.046556  # Sutton & Barto, 2018, example 5.1, played optimally
NATURAL = -0.025729182789  # where a natural wins one and a half


class Rules(NamedTuple):
    """What is known of the game.

    Attributes:
        value: the expected return of optimal play.
        states: the observations in which an action is chosen.
        starts: those of them that a game begins with.
        naturals: those in which two cards of 21 are among the hands, and so are others.
    """

    value: float
    states: set[tuple[int, int, int]]
    starts: set[tuple[int, int, int]]
    naturals: set[tuple[int, int, int]]


def total(hard: int, ace: bool) -> int:
    """Return what a hand counts; `hard` counts its aces as 1."""
    return hard + 10 if ace and hard <= 11 else hard


class Game:
    """The hands of a game.

    Args:
        cards: each is as likely as any other at every draw.

    Attributes:
        odds: how likely each card is.
        wins: what winning by sticking pays in each observation: more than one number if the hands differ in it.
    """

    def __init__(self, cards: tuple[int, ...]) -> None:
        self.odds = {card: count / len(cards) for card, count in Counter(cards).items()}
        self.wins: defaultdict[tuple[int, int, int], set[float]] = defaultdict(set)
        self.dealt, self.scores, self.value = cache(self._dealt), cache(self._scores), cache(self._value)

    def _dealt(self, hard: int, ace: bool) -> dict[int, float]:
        """Return how likely each score of the dealer is from a hand; 0 for one that goes over 21."""
        if total(hard, ace) >= 17:
            return {total(hard, ace) if hard <= 21 else 0: 1.0}
        return self._after((card, (hard + card, ace or card == 1)) for card in self.odds)

    def _scores(self, shown: int) -> dict[int, float]:
        """Return how likely each score of the dealer is from the card that is shown."""
        return self._after((card, (shown + card, 1 in (shown, card))) for card in self.odds)

    def _after(self, hands: Iterable[tuple[int, tuple[int, bool]]]) -> dict[int, float]:
        found: Counter[int] = Counter()
        for card, hand in hands:
            for score, share in self.dealt(*hand).items():
                found[score] += self.odds[card] * share
        return found

    def _value(self, hard: int, ace: bool, shown: int, win: float) -> float:
        """Return what a hand is worth; `win` is what winning by sticking pays."""
        mine = total(hard, ace)
        self.wins[mine, shown, int(mine != hard)].add(win)
        stick = sum(share * (win * (mine > score) - (mine < score)) for score, share in self.scores(shown).items())
        hit = sum(
            chance * (-1.0 if hard + card > 21 else self.value(hard + card, ace or card == 1, shown, 1.0))
            for card, chance in self.odds.items()
        )
        return max(stick, hit)


def by_the_rules(cards: tuple[int, ...], natural: bool = False) -> Rules:
    """Return what optimal play with a deck of these cards is worth.

    Args:
        cards: each is as likely as any other at every draw.
        natural: whether a natural that wins pays one and a half.
    """
    game, starts, expected = Game(cards), set(), 0.0
    for shown, one, two in itertools.product(game.odds, repeat=3):
        hard, ace = one + two, 1 in (one, two)
        win = 1.5 if natural and sorted((one, two)) == [1, 10] else 1.0
        expected += game.odds[shown] * game.odds[one] * game.odds[two] * game.value(hard, ace, shown, win)
        starts.add((total(hard, ace), shown, int(ace)))
    return Rules(expected, set(game.wins), starts, {state for state, wins in game.wins.items() if len(wins) > 1})


def main() -> None:
    """Walk through the whole game, by the book and with naturals that pay more.

    Raises:
        AssertionError: the table is another one.
    """
    from deeptaxi.config import EnvironmentConfig
    from deeptaxi.evaluation.solution import solve
    from deeptaxi.mdp.discovery import discover
    from deeptaxi.mdp.environment import open_environment
    from deeptaxi.mdp.walk import Limits

    assert tuple(blackjack.deck) == CARDS
    for natural, value, states, split in ((False, BOOK, 280, 0), (True, NATURAL, 290, 10)):
        rules = by_the_rules(CARDS, natural)
        environment = open_environment(EnvironmentConfig("Blackjack-v1", {"sab": False, "natural": natural}))
        found = discover(environment, Limits())
        optimum = solve(found.table, environment.horizon, 1.0)
        assert (found.states, found.split, found.policy_needs_hidden) == (states, split, False)
        assert abs(optimum.optimal_value - rules.value) < 1e-11
        assert abs(optimum.optimal_value - value) < 5e-7
        assert optimum.start_states == len(rules.starts)
        print(  # noqa: T201  # for whoever waits for it
            f"natural={natural}: {states} states, {found.snapshots:,} snapshots, {found.branches:,} branches, "
            f"value {optimum.optimal_value:.12f}, {found.seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
