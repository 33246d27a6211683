"""A family of problems that no setting was tuned on one by one: pure functions from a seed to a transition table.

`TUNED` are the families that the default for tables was tuned on, `HELD_OUT` those that it was only evaluated on; of
these, `PUBLISHED` are problems of books. Sizes, rewards and probabilities of every table follow from its seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deeptaxi.mdp.table import TransitionTable, from_arrays

Make = Callable[[int], TransitionTable]


def dense(transition: Any, reward: Any, start: Any, ends: Any = None, **optional: Any) -> TransitionTable:
    """Build a table from P(s'|s, a) `[S, A, S]` and rewards `[S, A]`; entering a state that `ends` marks terminates."""
    transition, reward = np.asarray(transition, float), np.asarray(reward, float)
    width = int((transition > 0).sum(-1).max())
    best = np.argsort(-transition, axis=-1, kind="stable")[..., :width]
    probability = np.take_along_axis(transition, best, axis=-1)
    final = np.zeros(len(transition), bool) if ends is None else np.asarray(ends, bool)
    return from_arrays(
        probability, best, np.broadcast_to(reward[..., None], best.shape), final[best], start, **optional
    )


def sure(next_state: Any, reward: Any, start: Any, ends: Any, **optional: Any) -> TransitionTable:
    """Build a deterministic table from arrays `[S, A]`."""
    target = np.asarray(next_state)[..., None]
    ended = np.asarray(ends)[..., None]
    return from_arrays(np.ones(target.shape), target, np.asarray(reward, float)[..., None], ended, start, **optional)


def first(states: int, state: int = 0) -> Any:
    """Return the distribution that always starts in `state`."""
    return np.eye(states)[state]


def poisson(mean: float, most: int) -> Any:
    """Return the probabilities of 0 … `most` − 1 events, and of `most` or more, `[most + 1]`."""
    log_k = np.cumsum(np.log(np.maximum(np.arange(most), 1)))
    exactly = np.exp(np.arange(most) * np.log(mean) - mean - log_k)
    return np.append(exactly, 1 - exactly.sum())


def garnet(seed: int, states: int | None = None, **optional: Any) -> TransitionTable:
    """Return a random problem: every pair leads to a few random states; rewards are uniform; nothing terminates."""
    rng = np.random.default_rng(seed)
    states = states or int(rng.choice([10, 30, 100, 300, 1000]))
    actions, branching = int(rng.choice([2, 4, 8, 16])), int(rng.choice([1, 2, 5, 10]))
    target = np.array([[rng.permutation(states)[:branching] for _ in range(actions)] for _ in range(states)])
    chance = rng.dirichlet(np.ones(target.shape[-1]), (states, actions))
    reward = np.broadcast_to(rng.random((states, actions))[..., None], target.shape)
    asked = {"discount": float(rng.choice([0.9, 0.99, 0.999])), **optional}
    return from_arrays(chance, target, reward, np.zeros(target.shape, bool), np.full(states, 1 / states), **asked)


def scaled_garnet(seed: int) -> TransitionTable:
    """Return a random problem whose rewards are of any order of magnitude and sparse, with a time limit."""
    rng = np.random.default_rng(seed + 1_000)
    table = garnet(seed, 50, discount=0.95, time_limit=200)
    sparse = rng.random((50, table.actions, 1)) < 0.1
    reward = table.reward * sparse * 10.0 ** rng.integers(-4, 5)
    return from_arrays(
        table.probability, table.next_state, reward, table.terminated, table.start, discount=0.95, time_limit=200
    )


def river_swim(seed: int) -> TransitionTable:
    """Return RiverSwim (Strehl and Littman, 2008) of 6 or 20 states: the far reward is found against the current."""
    states = (6, 20)[seed % 2]
    p = np.zeros((states, 2, states))
    reward = np.zeros((states, 2))
    for s in range(states):
        p[s, 0, max(s - 1, 0)] = 1
        p[s, 1, [max(s - 1, 0), s, min(s + 1, states - 1)]] += (0.05, 0.6, 0.35)
    p[0, 1] = p[-1, 1] = 0
    p[0, 1, :2], p[-1, 1, -2:] = (0.4, 0.6), (0.4, 0.6)
    reward[0, 0], reward[-1, 1] = 5, 10_000
    return dense(p, reward, first(states), discount=0.99)


def lock(seed: int) -> TransitionTable:
    """Return a combination lock: one right action a state, any other one leads back to the start."""
    rng = np.random.default_rng(seed)
    states, actions = int(rng.choice([10, 30, 80])), int(rng.choice([2, 4]))
    right = rng.integers(actions, size=states)
    opens = np.arange(actions) == right[:, None]
    target = np.where(opens, np.minimum(np.arange(states) + 1, states - 1)[:, None], 0)
    ends = opens & (np.arange(states) == states - 1)[:, None]
    limit = (None, 5 * states)[int(rng.integers(2))]
    return sure(target, ends.astype(float), first(states), ends, discount=0.99, time_limit=limit)


def grid(seed: int) -> TransitionTable:
    """Return a grid with walls and one goal, −1 a step; moves slip aside with a chance that the seed decides."""
    rng = np.random.default_rng(seed)
    size, slip = int(rng.choice([5, 10, 20])), float(rng.choice([0.0, 0.1, 0.3]))
    wall = rng.random((size, size)) < 0.2
    wall[0, 0] = wall[-1, -1] = False
    moves = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
    p = np.zeros((size * size, 4, size * size))
    for s in range(size * size):
        for a in range(4):
            for turn, chance in ((0, 1 - slip), (1, slip / 2), (3, slip / 2)):
                spot = np.clip(np.divmod(s, size) + moves[(a + turn) % 4], 0, size - 1)
                p[s, a, s if wall[tuple(spot)] else spot[0] * size + spot[1]] += chance
    goal = np.arange(size * size) == size * size - 1
    return dense(p, -np.ones(p.shape[:2]), first(size * size), goal, discount=0.99, time_limit=20 * size)


def wide(seed: int) -> TransitionTable:
    """Return a problem of 200 outcomes a pair, no termination and no time limit."""
    rng = np.random.default_rng(seed)
    states, actions = 200, 4
    chance = rng.dirichlet(np.full(states, 0.2), (states, actions))
    return dense(chance, rng.normal(size=(states, actions)), np.full(states, 1 / states), discount=0.9)


def inventory(seed: int) -> TransitionTable:
    """Return inventory control: order up to capacity, sell to Poisson demand, pay for holding and for ordering."""
    rng = np.random.default_rng(seed)
    capacity, demand = int(rng.choice([10, 20, 40])), rng.uniform(2, 6)
    price, cost, hold, fixed = 8.0, 3.0, rng.uniform(0.1, 0.5), rng.uniform(1, 5)
    p, reward = np.zeros((capacity + 1, capacity + 1, capacity + 1)), np.zeros((capacity + 1, capacity + 1))
    for s in range(capacity + 1):
        for a in range(capacity + 1):
            stock = min(s + a, capacity)
            sold = poisson(demand, stock)
            p[s, a, stock - np.arange(stock + 1)] = sold
            reward[s, a] = price * sold @ np.arange(stock + 1) - cost * (stock - s) - fixed * (stock > s) - hold * stock
    return dense(np.maximum(p, 0), reward, first(capacity + 1), discount=0.95)


def gambler(seed: int) -> TransitionTable:
    """Return the gambler's problem (Sutton and Barto, example 4.3): stake up to what is missing, win 1 at the goal."""
    rng = np.random.default_rng(seed)
    goal, win = int(rng.choice([10, 25, 50])), rng.uniform(0.25, 0.55)
    return stakes(goal, win, discount=0.99)


def stakes(goal: int, win: float, discount: float) -> TransitionTable:
    """Return the gambler's problem up to `goal`; a stake of 0, as good as the best one and endless, is left out."""
    stake = np.minimum(1 + np.arange(goal // 2), np.minimum(np.arange(goal), goal - np.arange(goal))[:, None])
    stake = np.maximum(stake, 1)
    states = np.arange(goal)[:, None]
    target = np.stack([np.minimum(states + stake, goal), np.maximum(states - stake, 0)], axis=-1)
    chance = np.broadcast_to([win, 1 - win], target.shape)
    ends = (target == goal) | (target == 0)
    start = np.where(np.arange(goal) > 0, 1 / (goal - 1), 0)
    return from_arrays(
        chance, np.where(target == goal, 0, target), (target == goal).astype(float), ends, start, discount=discount
    )


def machine(seed: int) -> TransitionTable:
    """Return machine replacement: wear grows at random and costs more and more; a new machine costs a fixed price."""
    rng = np.random.default_rng(seed)
    states, price = int(rng.choice([10, 30, 100])), rng.uniform(5, 50)
    p, reward = np.zeros((states, 2, states)), np.zeros((states, 2))
    for s in range(states):
        for step, chance in enumerate((0.3, 0.5, 0.2)):
            p[s, 0, min(s + step, states - 1)] += chance
            p[s, 1, step] += chance
        reward[s] = -((s / states * 10) ** 1.5), -price
    return dense(p, reward, first(states), discount=float(rng.choice([0.95, 0.99])))


def chain(seed: int) -> TransitionTable:
    """Return a long chain: each step right costs a little, the end pays; resting pays less than that, forever."""
    rng = np.random.default_rng(seed)
    states = int(rng.choice([20, 50, 100]))
    ahead = np.minimum(np.arange(states) + 1, states - 1)
    ends = np.zeros((states, 2), bool)
    ends[-1, 0] = True
    reward = np.zeros((states, 2))
    reward[:, 0], reward[-1, 0] = -0.01, 10
    target = np.stack([ahead, np.maximum(np.arange(states) - 1, 0)], axis=1)
    return sure(target, reward * 10.0 ** rng.integers(-3, 4), first(states), ends, discount=0.99)


def gambler_undiscounted(seed: int) -> TransitionTable:
    """Return the gambler's problem as the book has it: a goal of 100 and γ = 1; the seed says how often he wins."""
    return stakes(100, np.random.default_rng(seed).uniform(0.25, 0.55), discount=1.0)


def rent(requests: float, returns: float, room: int = 20) -> tuple[Any, Any]:
    """Return P(cars in the evening | in the morning) `[room + 1, room + 1]` of one place, and the mean number rented.

    What is returned can be rented from the next day; what exceeds `room` is taken away.
    """
    evening, rented = np.zeros((room + 1, room + 1)), np.zeros(room + 1)
    for cars in range(room + 1):
        asked = poisson(requests, cars)
        rented[cars] = asked @ np.arange(cars + 1)
        for left, chance in enumerate(asked[::-1]):
            evening[cars, left:] += chance * poisson(returns, room - left)
    return evening, rented


def jacks_cars(requests: tuple[float, float], returns: tuple[float, float], price: float = 2.0) -> TransitionTable:
    """Return Jack's car rental (Sutton and Barto, 2018, example 4.2): 21 · 21 states, 11 actions, 441 outcomes.

    Up to 5 cars are moved overnight between two places, for `price` each; a car rented out earns 10. An action moves
    no more cars than there are.
    """
    (here, rented_here), (there, rented_there) = (rent(*rates) for rates in zip(requests, returns, strict=True))
    first_place, second_place = np.divmod(np.arange(441), 21)
    moved = np.arange(-5, 6)
    before = np.stack([first_place[:, None] - moved, second_place[:, None] + moved])
    one, two = np.clip(before, 0, 20)
    p = here[one][..., :, None] * there[two][..., None, :]
    reward = 10 * (rented_here[one] + rented_there[two]) - price * abs(moved)
    return dense(
        p.reshape(441, 11, 441), reward, np.full(441, 1 / 441), discount=0.9, action_mask=(before >= 0).all(axis=0)
    )


def car_rental(seed: int) -> TransitionTable:
    """Return Jack's car rental with other rates and another price of moving a car."""
    rng = np.random.default_rng(seed)
    requests, returns = rng.uniform(2, 5, size=2), rng.uniform(2, 4, size=2)
    return jacks_cars(tuple(requests), tuple(returns), rng.uniform(1, 4))


def stand_of_trees(ages: int, old: float, cut: float, fire: float, discount: float) -> TransitionTable:
    """Return forest management as pymdptoolbox's ``example.forest(S, r1, r2, p)`` defines it.

    To wait (0) lets the forest grow a year older, or burn down with probability `fire`, and is worth `old` at the
    greatest age; to cut it (1) is worth 0 at the least age, `cut` at the greatest and 1 in between.
    """
    p, reward = np.zeros((ages, 2, ages)), np.zeros((ages, 2))
    age = np.arange(ages)
    p[age, 0, np.minimum(age + 1, ages - 1)] = 1 - fire
    p[:, 0, 0], p[:, 1, 0] = fire, 1
    reward[1:, 1] = 1
    reward[-1] = old, cut
    return dense(p, reward, first(ages), discount=discount)


def forest(seed: int) -> TransitionTable:
    """Return forest management of 5 to 50 ages, with rewards at which waiting may or may not pay."""
    rng = np.random.default_rng(seed)
    ages = int(rng.choice([5, 10, 20, 50]))
    old = rng.uniform(2, 2 * ages)
    return stand_of_trees(ages, old, old * rng.uniform(0.3, 0.9), rng.uniform(0.01, 0.1), discount=0.96)


def stock_control(
    demand: Any, capacity: int, fixed: float, cost: float, hold: float, price: float, discount: float
) -> TransitionTable:
    """Return stochastic inventory control (Puterman, 1994, section 3.2) with the demand's distribution `[D]`.

    The stock s is replenished by a ≤ `capacity` − s at once, for `fixed` + `cost` · a if a > 0; `hold` is paid for all
    of s + a, and `price` earned for what is sold. Demand that is not met is lost.
    """
    size = capacity + 1
    p, reward = np.zeros((size, size, size)), np.zeros((size, size))
    for s, a in np.argwhere(np.add.outer(np.arange(size), np.arange(size)) < size):
        sold = np.minimum(np.arange(len(demand)), s + a)
        np.add.at(p[s, a], s + a - sold, demand)
        reward[s, a] = price * (demand @ sold) - (fixed + cost * a) * (a > 0) - hold * (s + a)
    return dense(p, reward, np.full(size, 1 / size), discount=discount, action_mask=p.any(axis=-1))


def stock(seed: int) -> TransitionTable:
    """Return Puterman's inventory problem with a random demand and a fixed cost that makes it pay to order rarely."""
    rng = np.random.default_rng(seed)
    capacity = int(rng.choice([5, 15, 30]))
    demand = rng.dirichlet(np.ones(capacity // 2 + 1))
    return stock_control(demand, capacity, rng.uniform(2, 20), 2.0, rng.uniform(0.1, 1), 8.0, discount=0.95)


def admissions(arrivals: Any, services: Any, room: int, price: float, hold: float, discount: float) -> TransitionTable:
    """Return admission control of a queue in discrete time (Puterman, 1994, section 3.7.1).

    A state is the number of jobs in the system, at most `room`, and of those that have just arrived, of which the
    action admits some; the others are lost. `arrivals` and `services` are distributions of how many jobs arrive, and
    how many can be served, in one period. A job served earns `price`, one in the system costs `hold` a period.
    """
    most = len(arrivals)
    jobs, come, admit = np.meshgrid(np.arange(room + 1), np.arange(most), np.arange(most), indexing="ij")
    allowed = (admit <= come) & (jobs + admit <= room)
    p, reward = np.zeros((*allowed.shape, room + 1, most)), np.zeros(allowed.shape)
    for s, v, a in np.argwhere(allowed):
        served = np.minimum(np.arange(len(services)), s + a)
        np.add.at(p[s, v, a], s + a - served, np.multiply.outer(services, arrivals))
        reward[s, v, a] = price * (services @ served) - hold * (s + a)
    states = (room + 1) * most
    return dense(
        p.reshape(states, most, states), reward.reshape(states, most), first(states), discount=discount,
        action_mask=allowed.reshape(states, most),
    )  # fmt: skip


def queue(seed: int) -> TransitionTable:
    """Return admission control where up to 4 jobs arrive and up to 3 are served, in room for 10 to 40."""
    rng = np.random.default_rng(seed)
    arrivals, services = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(4))
    return admissions(arrivals, services, int(rng.choice([10, 20, 40])), 10.0, rng.uniform(0.1, 1), discount=0.98)


TUNED: dict[str, Make] = {
    "garnet": garnet, "river swim": river_swim, "lock": lock, "grid": grid, "scaled garnet": scaled_garnet,
}  # fmt: skip
PUBLISHED: dict[str, Make] = {
    "car rental": car_rental, "gambler undiscounted": gambler_undiscounted, "forest": forest, "stock": stock,
    "queue": queue,
}  # fmt: skip
HELD_OUT: dict[str, Make] = {
    "wide": wide, "inventory": inventory, "gambler": gambler, "machine": machine, "chain": chain, **PUBLISHED,
}  # fmt: skip
FAMILIES = {**TUNED, **HELD_OUT}
