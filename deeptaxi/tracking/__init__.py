"""Trackers: training runs in MLflow and in Weights & Biases."""
