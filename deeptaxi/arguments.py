"""Environment arguments as text: parse ``--env-arg KEY=VALUE``, and format values so that they parse back.

A value is TOML, else a Python literal as in Gymnasium's documentation (``False``, ``None``, ``(1, 0, 0)``, ``.8``,
``1/3``, ``{"a": 1}``), else plain text. Text that looks like a literal but does not parse is refused: the environment
would receive a string, and every non-empty string is true.

TOML has neither tuples nor null. `config.toml` stores arguments that TOML cannot express as text in a table of their
own, ``[environment.literals]``, so that a run is evaluated and resumed with exactly the values it was trained with.
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

from deeptaxi.errors import UsageError
from deeptaxi.io.safe_load import TOO_LONG, check_lengths, is_a, is_of_python

LONGEST = 2**18  # characters per value: a map of 500 × 500 cells
DEEPEST = 32  # nesting levels
SHOWN = 120  # characters of a value shown in a title
BRACKETS = "[]{}()"
NUMBER_LIKE = re.compile(r"[-+.\s]*\d[\d\s.,:_+*/%eE-]*", re.ASCII)
EXPECTED = (
    'it is neither TOML nor Python; expected a value such as false, 0.8, (1, 0), ["AB", "CD"], or a quoted string'
)
BY_SHELL = "; the shell removes quotes, unless the whole argument is in single quotes"
WORDS = {"true": True, "false": False, "inf": math.inf, "nan": math.nan}  # TOML's words, inside Python brackets
SURROGATES = re.compile("[\ud800-\udfff]")
PLAIN = re.compile(r"[^\s\"'\\#]+")  # text shown without quotes if it parses back as itself


def parse(text: str) -> Any:
    """Parse the text of a value.

    Raises:
        ValueError: the text looks like a literal but is not one, or is not finite, too long, or nested too deeply.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST:,} characters")
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
        raise ValueError("expected true or false in lowercase, or a quoted string")
    if looks_like_literal(text.strip()):
        raise ValueError(EXPECTED + (BY_SHELL if text.strip()[0] in BRACKETS and '"' not in text else ""))
    return text


def read_toml(text: str) -> Any:
    """Parse a TOML literal; reject text with a comment or a second value."""
    if text.rstrip().endswith(","):
        raise ValueError("TOML has no tuples")
    found = tomllib.loads(f"value = [ {text} ]")
    check_lengths(found)
    if list(found) != ["value"] or len(found["value"]) != 1:
        raise ValueError("expected a single value")
    return found["value"][0]


def read_python(text: str) -> Any:
    """Parse a Python literal; the only operators supported are signs and the division of numbers."""
    text = text.strip()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # syntax warnings about text that is not Python
        ast.parse(f"({text})", mode="eval")  # a comment is an error inside parentheses
        return value_of(ast.parse(text, mode="eval").body, 0)


def value_of(node: ast.AST, depth: int) -> Any:
    """Evaluate a literal node; raise a `ValueError` for anything else."""
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
                if key is not None  # as in {**other}, which the check above rules out
            ]
            if len(dict(found)) == len(keys):
                return dict(found)
    return is_formula(node, depth)


def is_formula(node: ast.AST, depth: int) -> Any:
    """Evaluate signs and divisions of numbers."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -number_of(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return number_of(operand, depth + 1)
        case ast.BinOp(op=ast.Div(), left=left, right=right):
            return number_of(left, depth + 1) / number_of(right, depth + 1)
    raise ValueError("it is not a literal")


def number_of(node: ast.AST, depth: int) -> Any:
    """Evaluate a node that must be a number."""
    value = value_of(node, depth)
    if not is_a(value, int | float):
        raise ValueError("it is not a number")  # of a text
    return value


def check_plain(value: Any, infinite: bool, depth: int = 0) -> None:
    """Reject values nested too deeply, and non-finite numbers unless `infinite`."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, float) and not (infinite or math.isfinite(value)):
        raise ValueError("its number is too large")
    for part in parts_of(value):
        check_plain(part, infinite, depth + 1)


def parts_of(value: Any) -> list[Any]:
    """Return the elements of a list, a tuple or a mapping."""
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def looks_like_literal(text: str) -> bool:
    """Whether the text was probably meant as a literal: it has brackets or quotes, or only digits and signs."""
    if not text:
        return False
    ends = BRACKETS + "\"'"
    unbalanced = any(text.count(one) != text.count(other) for one, other in ("[]", "{}", "()"))
    return text[0] in ends or text[-1] in ends or unbalanced or NUMBER_LIKE.fullmatch(text) is not None


def show(value: Any, nested: bool = False) -> str:
    """Format a value so that `parse` reads it back."""
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
    """Whether the text parses as itself without quotes."""
    try:
        return PLAIN.fullmatch(text) is not None and text.isprintable() and parse(text) == text
    except ValueError:
        return False


def quote(text: str) -> str:
    """Quote a text for TOML and Python; text with surrogates is valid in Python only."""
    return repr(text) if SURROGATES.search(text) else json.dumps(text, ensure_ascii=False)


def words(kwargs: Mapping[str, Any]) -> str:
    """Format arguments for ``--env-arg``: ``is_rainy=true rainy_probability=0.5``."""
    return " ".join(f"{key}={show(value)}" for key, value in kwargs.items())


def short_words(kwargs: Mapping[str, Any]) -> str:
    """Format arguments for a title: like `words`, but long values are shortened."""
    return " ".join(f"{key}={shorten(show(value))}" for key, value in kwargs.items())


def shorten(text: str) -> str:
    """Cut the middle out of a long text."""
    if len(text) <= SHOWN:
        return text
    return f"{text[: SHOWN // 2]} … {text[-SHOWN // 4 :]} ({len(text):,} characters)"


def title(environment: Mapping[str, Any]) -> str:
    """Format the id and arguments of an environment, given its `describe` mapping, as a title."""
    return f"{environment['id']} {short_words(environment['kwargs'])}".strip()


def plain(value: Any) -> Any:
    """Convert NumPy scalars to Python numbers, strings and booleans; leave arrays unchanged."""
    if type(value) is dict:
        return {key: plain(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(part) for part in value)
    is_scalar = type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0
    return value.item() if is_scalar else value


def to_toml(kwargs: Mapping[str, Any], whose: str = "environment's") -> tuple[dict[str, Any], dict[str, str]]:
    """Split arguments into those that TOML can express and the others, as text; `whose` they are is for errors.

    Raises:
        UsageError: an argument has no text form, so it cannot be stored in a file.
    """
    literals = {key: show(value) for key, value in kwargs.items() if not is_toml(value)}
    for key, text in literals.items():
        if not is_kept(kwargs[key], text):
            raise UsageError(
                f"the {whose} argument {key} is {described(kwargs[key])}, which config.toml cannot hold: give it "
                "as true or false, a number, a string, None, or lists, tuples and dicts of these"
            )
    return {key: value for key, value in kwargs.items() if key not in literals}, literals


def is_kept(value: Any, text: str) -> bool:
    """Whether the text parses back to this value, including its types."""
    try:
        return bool(repr(parse(text)) == repr(value))
    except ValueError:
        return False


def described(value: Any) -> str:
    """Describe a value that cannot be stored."""
    return f"of type {type(value).__name__}" if not parts_of(value) else show(value)[:SHOWN]


def is_toml(value: Any) -> bool:
    """Whether TOML can write the value and read it back unchanged."""
    if type(value) is dict:  # TOML would move a nested table to the end, and the order may matter
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
    """Whether the value is a mapping or a list that contains one."""
    return type(value) is dict or (type(value) is list and any(map(holds_table, value)))


def from_toml(kwargs: Mapping[str, Any], literals: Any, section: str = "environment") -> dict[str, Any]:
    """Restore the arguments written by `to_toml`.

    Raises:
        UsageError: the texts are not literals.
    """
    if not isinstance(literals, Mapping) or not all(isinstance(text, str) for text in literals.values()):
        raise UsageError(f"'{section}.literals' holds Python literals as texts, such as goal = \"(1, 0)\"")
    found = dict(kwargs)
    for key, text in literals.items():
        try:
            found[key] = parse(text)
        except ValueError as error:
            raise UsageError(f"'{section}.literals.{key}' = {shorten(text)!r}: {error}") from None
    return found
