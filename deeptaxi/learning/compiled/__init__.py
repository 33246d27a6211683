"""The same update rule and loop as one compiled program: table, replay buffer and update as arrays."""
