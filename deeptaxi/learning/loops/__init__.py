"""The loops: ways to drive environment, replay and updates, all yielding the same stream."""
