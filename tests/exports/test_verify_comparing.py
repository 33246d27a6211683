from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.errors import DeepTaxiError
from deeptaxi.exports.read_back import Answers, Comparison, compare, tolerance
from deeptaxi.storage.formats import FORMATS

INF, NAN = np.inf, np.nan
Q = np.array([[1.0, 2.0], [-INF, 3.0], [4.0, 4.0]], np.float32)
SOUND = Answers(Q, np.array([1, 1, 0]), np.full((2, 2), NAN, np.float32), np.array([-1, -1]), np.array([False, False]))


def test_the_same_answers_differ_by_nothing() -> None:
    assert compare(FORMATS["keras"], SOUND, Q) == Comparison(0.0, 0)


def test_another_action_is_counted_where_the_two_are_tied() -> None:
    assert compare(FORMATS["keras"], SOUND._replace(actions=np.array([1, 1, 1])), Q) == Comparison(0.0, 1)


def test_rounding_is_for_the_formats_that_round() -> None:
    rounded = SOUND._replace(q_values=Q + np.float32([[0, 0], [0, 0], [0, -2e-6]]))
    found = compare(FORMATS["onnx"], rounded, Q)  # 2e-6 of 4 at most
    assert found.max_difference == pytest.approx(2e-6, rel=0.2)
    with pytest.raises(DeepTaxiError, match=r"keras export differs from the model by 1\.9"):
        compare(FORMATS["keras"], rounded, Q)
    assert tolerance(FORMATS["litert"], Q) == pytest.approx(4e-6)
    assert tolerance(FORMATS["litert"], Q / 100) == 1e-6


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"q_values": Q[:2]}, "differs from the model by inf"),
        ({"q_values": np.float32([[1, 2], [-3.4e38, 3], [4, 4]])}, "differs from the model by inf"),
        ({"q_values": np.float32([[1, 2], [-INF, NAN], [4, 4]])}, "differs from the model by inf"),
        ({"actions": np.array([0, 1, 0])}, "contradict its Q values in 1 states, such as 0"),
        ({"actions": np.array([1, 0, 0])}, "contradict its Q values in 1 states, such as 1"),
        ({"actions": np.array([1, 1, 2])}, "contradict its Q values in 1 states, such as 2"),
        ({"actions": np.array([-1, 1, 0])}, "contradict its Q values"),
        ({"outside_actions": np.array([-1, 0])}, "should give NaN and action −1 for states that do not exist"),
        ({"outside_q_values": np.float32([[NAN, NAN], [NAN, 0]])}, "should give NaN and action −1"),
        ({"outside_errors": np.array([True, True])}, "should give NaN and action −1"),
    ],
)
def test_answers_that_are_wrong_are_refused(changed: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DeepTaxiError, match=f"the plain export.*{said}"):
        compare(FORMATS["plain"], SOUND._replace(**changed), Q)


def test_a_table_that_has_no_such_row_must_raise() -> None:
    assert compare(FORMATS["csv"], SOUND._replace(outside_errors=np.array([True, True])), Q) == Comparison(0.0, 0)
    with pytest.raises(DeepTaxiError, match="should give error"):
        compare(FORMATS["csv"], SOUND, Q)
