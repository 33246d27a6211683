from __future__ import annotations

import numpy as np

from deeptaxi.evaluation import exact
from deeptaxi.evaluation.comparison import compare
from deeptaxi.report.content import Subject
from tests.problems import build, surely


def subject(**known):
    return Subject(None, np.zeros(3, int), **{"comparison": None, "visits": None, **known}, diagnosis=None,
                   again="", evaluate="", settings="")  # fmt: skip


def test_the_states_of_a_report_are_those_where_the_agent_chooses_as_far_as_known():
    # 0 ends or goes to 1; nothing leads to 2.
    table = build([[surely(0, 1, True), surely(1, 0)], [surely(1, 0, True)] * 2, [surely(2, 0, True)] * 2])
    comparison = compare(exact.reference(table, 10, 0.9, 0.9), np.zeros((3, 2)))
    visits = np.array([[0, 0], [0, 2], [1, 0]])
    assert subject(comparison=comparison, visits=visits).states.tolist() == [True, True, False]
    assert subject(visits=visits).states.tolist() == [False, True, True]
    assert subject(visits=np.zeros((3, 2), int)).states.all()
    assert subject().states.all()
