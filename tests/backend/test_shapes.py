from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.backend.shapes import check_shapes, is_alike


@pytest.mark.parametrize(
    ("shape", "other", "alike"),
    [
        ((), (), True),
        ((4, 3), (4, 3), True),
        ((None, 3), (4, 3), True),
        ((4, None), (None, 3), True),
        ((4, 3), (4, 1), False),
        ((4,), (4, 1), False),
    ],
)
def test_shapes_are_compared_as_far_as_both_are_known(shape, other, alike):
    assert is_alike(shape, other) is is_alike(other, shape) is alike


def test_a_letter_is_one_size_in_all_arrays():
    check_shapes(q_values=(np.zeros((4, 3)), "BA"), actions=(np.zeros(4), "B"), rest=(np.zeros((3, 4)), "AB"))
    with pytest.raises(ValueError, match=r"^expected q_values \[B, A\], actions \[B\]; received \[4, 3\], \[3\]$"):
        check_shapes(q_values=(np.zeros((4, 3)), "BA"), actions=(np.zeros(3), "B"))
    with pytest.raises(ValueError, match=r"^expected actions \[B\]; received \[4, 1\]$"):
        check_shapes(actions=(np.zeros((4, 1)), "B"))
