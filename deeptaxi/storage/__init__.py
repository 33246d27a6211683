"""What is kept: run folders, model cards, logs and checkpoints."""
