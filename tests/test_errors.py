"""What a message may hold of a text from elsewhere."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from deeptaxi.errors import printable
from deeptaxi.metrics import to_json

SEEN = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"  # signs, not marks
JOINERS = "\u200c\u200d"


def test_invisible_control_characters_are_left_out():
    letters = [chr(number) for number in range(sys.maxunicode + 1)]
    obeyed = {letter for letter in letters if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    hieroglyphs = {letter for letter in obeyed if 0x13430 <= ord(letter) < 0x13460}  # which it puts together
    left_out = {letter for letter in letters if not printable(letter)}
    assert left_out == obeyed - {*"\t\n", *SEEN, *JOINERS} - hieroglyphs


@pytest.mark.parametrize("letter", "\u200e\u200f\u061c\u2028\u2029\u202e\u2066\u200b\ufeff\x85\x9b\U000e0041")
def test_a_name_cannot_turn_or_break_its_line(letter):
    assert printable(f"a{letter}b") == "ab"
    shown = to_json({"name": f"a{letter}b"})
    assert letter not in shown
    assert json.loads(shown) == {"name": f"a{letter}b"}


@pytest.mark.parametrize(
    "text", ["می\u200cخواهم", "क्\u200dष", "👩\u200d🚀", "🏳️\u200d🌈", "שלום", "ﷺ", "naïve", "日本\u3000語", "é"]
)
def test_ordinary_scripts_are_left_as_they_are(text):
    assert printable(text) == text
    assert text in to_json([text])
