"""Environments, their transition tables, and planning on them. Uses NumPy and Gymnasium only."""
