from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deeptaxi.api.status import shown_by, status


def test_a_status_is_reported_to_its_display_and_nested_ones_are_not() -> None:
    told: list[str] = []

    @contextmanager
    def show(text: str) -> Iterator[None]:
        told.append(text)
        yield
        told.append(f"end of {text}")

    with status("unseen"):
        pass
    with shown_by(show), status("outer"), status("inner"):
        pass
    with shown_by(show), shown_by(None), status("hidden"):
        pass
    assert told == ["outer", "end of outer"]
