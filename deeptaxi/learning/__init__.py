"""Learning: targets, replay buffer, agent, and the loops that train it."""
