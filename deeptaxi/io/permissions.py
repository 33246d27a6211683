"""Whether a folder or file is the user's alone, so that what it holds may be believed.

Any process running as the user can change it, just as it can change deeptaxi itself. On Windows, whose permissions
Python does not expose, the user's own folders are protected by default.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

OTHERS = stat.S_IWGRP | stat.S_IWOTH


def check_way(root: Path) -> None:
    """Raise OSError if anyone but the user and the administrator can write to the folder or replace it."""
    if not is_own(root.lstat()):
        raise PermissionError(f"{root} is not the user's alone")
    for folder in root.parents:
        found = folder.lstat()
        sticky = found.st_mode & stat.S_ISVTX  # as for /tmp: entries can be renamed only by their owner or the folder's
        if hasattr(os, "getuid") and (found.st_uid not in (0, os.getuid()) or (found.st_mode & OTHERS and not sticky)):
            raise PermissionError(f"others may replace what is in {folder}")


def is_own(found: os.stat_result) -> bool:
    """Whether a file or folder (not a link) belongs to the user and is writable by nobody else."""
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & OTHERS and not stat.S_ISLNK(found.st_mode)
