"""The shapes of arrays, compared before a backend would broadcast them: `[B]` and `[B, 1]` to `[B, B]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Shape = Sequence[int | None]  # None: unknown while a program is traced


def is_alike(shape: Shape, other: Shape) -> bool:
    """Return whether two shapes are equal, as far as both are known."""
    return len(shape) == len(other) and all(
        None in sides or sides[0] == sides[1] for sides in zip(shape, other, strict=True)
    )


def check_shapes(**arrays: tuple[Any, str]) -> None:
    """Check the shapes of arrays against those described by letters, each of which stands for one size.

    Args:
        **arrays: by name, the array and its axes, such as ``q_values=(q_values, "BA"), actions=(actions, "B")``.

    Raises:
        ValueError: an array has another number of axes, or a letter would be two sizes.
    """
    shapes = [tuple(array.shape) for array, _ in arrays.values()]
    sizes: dict[str, int] = {}
    for shape, (_, axes) in zip(shapes, arrays.values(), strict=True):
        if len(shape) != len(axes) or not all(
            size is None or sizes.setdefault(axis, size) == size for axis, size in zip(axes, shape, strict=True)
        ):
            expected = ", ".join(f"{name} [{', '.join(axes)}]" for name, (_, axes) in arrays.items())
            raise ValueError(f"expected {expected}; received {', '.join(str(list(shape)) for shape in shapes)}")
