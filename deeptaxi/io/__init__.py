"""Files that survive crashes and strangers: atomic writes, locks, temporary folders, bounded reading."""
