"""Crash-safe and untrusted files: atomic writes, locks, temporary folders, bounded reading."""
