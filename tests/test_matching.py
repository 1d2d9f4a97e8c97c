from __future__ import annotations

import numpy as np
import pytest

from hand_perception.matching import cheapest_pairs


def test_pairs_cost_least_together():
    # Cheapest first would take 1 and be left with 9.
    assert cheapest_pairs(alone=1e6, costs=np.array([[1.0, 2.0], [2.0, 9.0]])) == [1, 0]


def test_infinite_costs_are_never_taken_and_as_many_pairs_as_can_be_are_made():
    inf = np.inf
    assert cheapest_pairs(alone=1e6, costs=np.array([[inf, 3.0], [inf, 1.0]])) == [-1, 1]
    assert cheapest_pairs(alone=1e6, costs=np.array([[5.0, 3.0], [inf, 1.0]])) == [0, 1]
    assert cheapest_pairs(alone=1e6, costs=np.array([[1.0, inf], [2.0, 700.0]])) == [0, 1]
    assert cheapest_pairs(alone=1e6, costs=np.full((2, 2), inf)) == [-1, -1]


def test_a_row_stays_alone_where_pairs_cost_more():
    costs = np.array([[48.0, 0.0], [np.inf, 30.0]])
    # Both in pairs cost 78; the first with its best and the second alone 20.
    assert cheapest_pairs(costs, alone=20.0) == [1, -1]
    assert cheapest_pairs(costs, alone=100.0) == [0, 1]
    assert cheapest_pairs(np.array([[21.0]]), alone=20.0) == [-1]


def test_empty_sides():
    assert cheapest_pairs(alone=1e6, costs=np.zeros((0, 3))) == []
    assert cheapest_pairs(alone=1e6, costs=np.zeros((2, 0))) == [-1, -1]


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (5, 2), (6, 6), (10, 14)])
def test_it_agrees_with_scipy(shape):
    optimize = pytest.importorskip("scipy.optimize", reason="needs SciPy: the train extra")
    rng = np.random.default_rng(sum(shape))
    for _ in range(50):
        costs = rng.normal(0, 10, shape)
        chosen = cheapest_pairs(costs, alone=1e6)
        pairs = [(r, c) for r, c in enumerate(chosen) if c >= 0]
        assert len(pairs) == len({c for _, c in pairs}) == min(shape)
        best = costs[optimize.linear_sum_assignment(costs)].sum()
        assert sum(costs[p] for p in pairs) == pytest.approx(best)
