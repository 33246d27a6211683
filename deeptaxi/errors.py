"""Errors that a user can act on: one line each, and the exit code that goes with it.

Every message says what was wrong and what to do. The command line prints it without a traceback.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# What a terminal or a reader obeys and does not see, by the categories of Unicode: controls but tab and newline (Cc);
# separators of lines and paragraphs (Zl, Zp); formats (Cf), such as marks that turn the order of letters round, and
# letters that stand for nothing; and halves of letters, which cannot be written (Cs). Two formats stay, without which
# Persian, the languages of India and many an emoji are misspelled, and which move nothing: U+200C and U+200D, which
# part and join letters. So do signs that are seen, such as the Arabic one that stands before a year.
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)


class DeepTaxiError(Exception):
    """Something failed that was not the user's command: a damaged file, a full disk, a diverged training."""

    exit_code = 1


class UsageError(DeepTaxiError):
    """What was asked for cannot be done as asked: a wrong option, an unknown name, an unsupported space."""

    exit_code = 2


class DivergedError(DeepTaxiError):
    """A training ran away: there is nothing of it to keep or to go on from."""


class EnvironmentFailedError(DeepTaxiError):
    """The code of an environment raised an error, or gave what no environment may give."""


class DiskError(DeepTaxiError):
    """A disk, its permissions or a quota refuse to take what is written, or a folder is gone."""


class TakenError(UsageError):
    """Something stands in the place that is to be written to, or another process writes there."""


def nearest(word: str, known: Iterable[str], count: int = 1) -> str:
    """Return ``"; did you mean 'x'?"`` for the names nearest to `word`, or an empty string.

    Case is ignored: most typing errors in environment ids are errors of case.
    """
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), names, n=count, cutoff=0.6)
    if not close:
        return ""
    return "; did you mean " + " or ".join(f"'{names[name]}'" for name in close) + "?"


def printable(text: str) -> str:
    """Return a text without what a terminal would obey, and what nobody sees. Names come from other people's files."""
    return text if text.isprintable() else CONTROLS.sub("", text)  # most are: to find that out costs next to nothing


def encodable(text: str) -> bool:
    """Whether a text can be written to a file; names of files and words of the command line can be other bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
