"""What is kept: run folders, logs, exports."""
