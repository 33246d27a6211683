"""Errors that the user can act on: one line each, with an exit code.

Every message says what is wrong and what to do. The command line prints it without a traceback.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

# Characters that a terminal or reader interprets but does not display, by Unicode category: controls except tab and
# newline (Cc); line and paragraph separators (Zl, Zp); format characters (Cf), such as bidirectional controls and
# zero-width characters; and surrogates, which cannot be encoded (Cs). Two format characters are allowed: U+200C and
# U+200D, the zero-width non-joiner and joiner. Persian, the languages of India and many emoji need them, and they
# reorder nothing. Visible signs are allowed too, such as the Arabic year sign.
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)


class DeepTaxiError(Exception):
    """A failure that is not the fault of the user's command: a damaged file, a full disk, a diverged training."""

    exit_code = 1


class UsageError(DeepTaxiError):
    """A request that cannot be fulfilled as given: a wrong option, an unknown name, an unsupported space."""

    exit_code = 2


class DivergedError(DeepTaxiError):
    """The training diverged: there is nothing to save or to resume from."""


class EnvironmentFailedError(DeepTaxiError):
    """The environment's code raised an error or returned an invalid value."""


class DiskError(DeepTaxiError):
    """Writing failed because of the disk, its permissions or a quota, or because the folder is gone."""


class CallbackError(DeepTaxiError):
    """A callback of the user raised an error, which is its `__cause__`.

    Attributes:
        run: the run so far; None if there was nothing to keep.
    """

    run: Any = None


class TakenError(UsageError):
    """The destination exists already, or another process is writing to it."""


def nearest(word: str, known: Iterable[str], count: int = 1) -> str:
    """Return ``"; did you mean 'x'?"`` for the names nearest to `word`, or an empty string.

    Case is ignored: most typos in environment ids are errors of case.
    """
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), names, n=count, cutoff=0.6)
    if not close:
        return ""
    return "; did you mean " + " or ".join(f"'{names[name]}'" for name in close) + "?"


def printable(text: str) -> str:
    """Remove characters that a terminal interprets or does not display; names may come from untrusted files."""
    return text if text.isprintable() else CONTROLS.sub("", text)  # usually true, and almost free to check


def one_line(text: object, most: int = 200) -> str:
    """Return a text, or the message of an error, in one line of at most `most` characters, without `CONTROLS`."""
    found = printable(" ".join(str(text).split()))
    return found if len(found) <= most else f"{found[: most - 1]}…"


PASSWORD = re.compile(r"(?<=:)//[^/@\s]*@")  # of an address, with its user


def describe_fault(error: Exception) -> str:
    """Return a library's error message in one line, without passwords of addresses."""
    return one_line(PASSWORD.sub("//", str(error)), 300) or type(error).__name__


def encodable(text: str) -> bool:
    """Whether the text can be encoded; file names and command-line words can contain other bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
