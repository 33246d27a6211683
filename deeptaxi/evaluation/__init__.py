"""Evaluate policies: exactly if there is a transition table, by sampling otherwise."""
