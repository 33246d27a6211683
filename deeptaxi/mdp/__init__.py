"""The problem: environments, their transition tables, and planning on them. NumPy and Gymnasium only."""
