"""Arguments of an environment as text: what ``--env-arg KEY=VALUE`` means, and how a value is written to mean the same.

A value is TOML, else a Python literal, as Gymnasium's pages have it (``False``, ``None``, ``(1, 0, 0)``, ``.8``,
``1/3``, ``{"a": 1}``), else plain text. What looks like a literal and is none is refused: it would reach the
environment as a text, and every text is true.

TOML has neither tuples nor null. `config.toml` keeps the arguments that it cannot write as texts in a table of their
own, ``[environment.literals]``, so that a run is evaluated and resumed with the very value that it was trained with.
"""

from __future__ import annotations

import ast
import datetime
import json
import math
import re
import tomllib
import warnings
from collections.abc import Mapping
from typing import Any

from deeptaxi.bounds import TOO_LONG, check_lengths, is_of_python
from deeptaxi.errors import UsageError

LONGEST = 2**18  # letters of a value: a map of 500 × 500 cells
DEEPEST = 32  # lists within lists
SHOWN = 120  # letters of a value that a title has room for
BRACKETS = "[]{}()"
NUMBER_LIKE = re.compile(r"[-+.\s]*\d[\d\s.,:_+*/%eE-]*", re.ASCII)
EXPECTED = (
    'it is neither TOML nor Python; expected a value such as false, 0.8, (1, 0), ["AB", "CD"], or a text in quotes'
)
BY_SHELL = "; the shell takes quotes away, unless all of it is in single ones"
WORDS = {"true": True, "false": False, "inf": math.inf, "nan": math.nan}  # of TOML, within brackets of Python's
SURROGATES = re.compile("[\ud800-\udfff]")
PLAIN = re.compile(r"[^\s\"'\\#]+")  # texts that are shown without quotes, if they are read back as themselves


def parse(text: str) -> Any:
    """Return the value of a text.

    Raises:
        ValueError: it looks like a literal and is none, or is not finite, too long, or nested too deeply.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST:,} letters")
    for read in (read_toml, read_python):
        try:
            value = read(text)
        except (ValueError, SyntaxError, ArithmeticError, RecursionError, MemoryError) as error:
            if (is_of_python(error) and looks_like_literal(text.strip())) or str(error) == TOO_LONG:
                raise ValueError(TOO_LONG) from None
            continue
        check_plain(value, re.search("inf|nan", text, re.IGNORECASE) is not None)
        return value
    if text.strip().lower() in ("true", "false"):
        raise ValueError("expected true or false, in small letters, or a text in quotes")
    if looks_like_literal(text.strip()):
        raise ValueError(EXPECTED + (BY_SHELL if text.strip()[0] in BRACKETS and '"' not in text else ""))
    return text


def read_toml(text: str) -> Any:
    """Return the value of a TOML literal; a comment, or a second value behind it, makes it none."""
    if text.rstrip().endswith(","):
        raise ValueError("TOML has no tuples")
    found = tomllib.loads(f"value = [ {text} ]")
    check_lengths(found)
    if list(found) != ["value"] or len(found["value"]) != 1:
        raise ValueError("it is not one value")
    return found["value"][0]


def read_python(text: str) -> Any:
    """Return the value of a Python literal. Of all operators, only signs and the division of numbers are known."""
    text = text.strip()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's advice on texts that are no Python
        ast.parse(f"({text})", mode="eval")  # within brackets, a comment is an error
        return value_of(ast.parse(text, mode="eval").body, 0)


def value_of(node: ast.AST, depth: int) -> Any:
    """Return the value of a node; raises a `ValueError` for whatever is no literal."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            check_lengths(value)
            return value
        case ast.Name(id=word) if depth and word in WORDS:
            return WORDS[word]
        case ast.List(elts=parts):
            return [value_of(part, depth + 1) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(value_of(part, depth + 1) for part in parts)
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            found = [
                (value_of(key, depth + 1), value_of(part, depth + 1))
                for key, part in zip(keys, values, strict=True)
                if key is not None  # as in {**other}, which the check above has excluded
            ]
            if len(dict(found)) == len(keys):
                return dict(found)
    return is_formula(node, depth)


def is_formula(node: ast.AST, depth: int) -> Any:
    """Return the number that signs and divisions come to."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -number_of(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return number_of(operand, depth + 1)
        case ast.BinOp(op=ast.Div(), left=left, right=right):
            return number_of(left, depth + 1) / number_of(right, depth + 1)
    raise ValueError("it is no literal")


def number_of(node: ast.AST, depth: int) -> Any:
    """Return the number of a node."""
    value = value_of(node, depth)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("it is no number")  # noqa: TRY004  # of a text
    return value


def check_plain(value: Any, infinite: bool, depth: int = 0) -> None:
    """Refuse what is nested too deeply, and numbers that are too large where none is meant to be `infinite`."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, float) and not (infinite or math.isfinite(value)):
        raise ValueError("its number is too large")
    for part in parts_of(value):
        check_plain(part, infinite, depth + 1)


def parts_of(value: Any) -> list[Any]:
    """Return what a list, a tuple or a mapping holds."""
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def looks_like_literal(text: str) -> bool:
    """Whether somebody may have meant a literal: it has brackets, quotes, or digits and signs alone."""
    if not text:
        return False
    ends = BRACKETS + "\"'"
    unbalanced = any(text.count(one) != text.count(other) for one, other in ("[]", "{}", "()"))
    return text[0] in ends or text[-1] in ends or unbalanced or NUMBER_LIKE.fullmatch(text) is not None


def show(value: Any, nested: bool = False) -> str:
    """Return a value in the form that `parse` reads."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quote(value) if nested or not is_bare(value) else value
        case tuple():
            return f"({', '.join(show(part, True) for part in value)}{',' * (len(value) == 1)})"
        case list():
            return f"[{', '.join(show(part, True) for part in value)}]"
        case Mapping():
            return f"{{{', '.join(f'{show(key, True)}: {show(part, True)}' for key, part in value.items())}}}"
        case datetime.date() | datetime.time():
            return value.isoformat()
    return repr(value)


def is_bare(text: str) -> bool:
    """Whether a text without quotes is read as itself."""
    try:
        return PLAIN.fullmatch(text) is not None and text.isprintable() and parse(text) == text
    except ValueError:
        return False


def quote(text: str) -> str:
    """Return a text in quotes, as TOML and Python read it; halves of letters are known to Python alone."""
    return repr(text) if SURROGATES.search(text) else json.dumps(text, ensure_ascii=False)


def words(kwargs: Mapping[str, Any]) -> str:
    """Return arguments as ``--env-arg`` takes them: ``is_rainy=true rainy_probability=0.5``."""
    return " ".join(f"{key}={show(value)}" for key, value in kwargs.items())


def short_words(kwargs: Mapping[str, Any]) -> str:
    """Return arguments for a title: what `words` does, with the middle of a long value left out."""
    return " ".join(f"{key}={shorten(show(value))}" for key, value in kwargs.items())


def shorten(text: str) -> str:
    """Return a text without its middle, if it is long."""
    if len(text) <= SHOWN:
        return text
    return f"{text[: SHOWN // 2]} … {text[-SHOWN // 4 :]} ({len(text):,} letters)"


def title(environment: Mapping[str, Any]) -> str:
    """Return the id and the arguments of an environment, as its `describe` has them, for a title."""
    return f"{environment['id']} {short_words(environment['kwargs'])}".strip()


def plain(value: Any) -> Any:
    """Return a value with NumPy's scalars as Python's numbers, texts and truth values; arrays are left as they are."""
    if type(value) is dict:
        return {key: plain(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(part) for part in value)
    is_scalar = type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0
    return value.item() if is_scalar else value


def to_toml(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arguments that TOML can write, and the others as texts.

    Raises:
        UsageError: one has no form as text, so that no file can keep it.
    """
    literals = {key: show(value) for key, value in kwargs.items() if not is_toml(value)}
    for key, text in literals.items():
        if not is_kept(kwargs[key], text):
            raise UsageError(
                f"the environment's argument {key} is {described(kwargs[key])}, which config.toml cannot hold: give it "
                "as true or false, a number, a text, None, or lists, tuples and dicts of these"
            )
    return {key: value for key, value in kwargs.items() if key not in literals}, literals


def is_kept(value: Any, text: str) -> bool:
    """Whether a text is read back as this value, of the same types."""
    try:
        return bool(repr(parse(text)) == repr(value))
    except ValueError:
        return False


def described(value: Any) -> str:
    """Return the kind of a value that cannot be kept."""
    return f"of type {type(value).__name__}" if not parts_of(value) else show(value)[:SHOWN]


def is_toml(value: Any) -> bool:
    """Whether TOML can write a value so that it is read back as itself."""
    if type(value) is dict:  # a table within it would be written behind all else, and the order may have a meaning
        return all(
            type(key) is str and not SURROGATES.search(key) and is_toml(part) and not holds_table(part)
            for key, part in value.items()
        )
    if type(value) is list:
        return all(map(is_toml, value))
    if type(value) is str:
        return not SURROGATES.search(value)
    return type(value) in (bool, int, float, datetime.date, datetime.time, datetime.datetime)


def holds_table(value: Any) -> bool:
    """Whether a value is a mapping, or a list with one."""
    return type(value) is dict or (type(value) is list and any(map(holds_table, value)))


def from_toml(kwargs: Mapping[str, Any], literals: Any) -> dict[str, Any]:
    """Return the arguments that `to_toml` has written.

    Raises:
        UsageError: the texts are no literals.
    """
    if not isinstance(literals, Mapping) or not all(isinstance(text, str) for text in literals.values()):
        raise UsageError("'environment.literals' holds Python literals as texts, such as goal = \"(1, 0)\"")
    found = dict(kwargs)
    for key, text in literals.items():
        try:
            found[key] = parse(text)
        except ValueError as error:
            raise UsageError(f"'environment.literals.{key}' = {shorten(text)!r}: {error}") from None
    return found
