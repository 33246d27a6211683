"""Store run folders, model cards, logs and checkpoints."""
