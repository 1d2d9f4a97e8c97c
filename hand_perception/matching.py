"""Which of these belongs to which of those, at the least cost altogether.

SciPy's linear_sum_assignment does this too; a node that follows a few hands need not install it.
"""

from __future__ import annotations

import numpy as np

# More than any sum of costs.
_FORBIDDEN = 1e9


def cheapest_pairs(costs: np.ndarray, alone: float) -> list[int]:
    """The column of each row of costs [N, M], or -1; each column at most once.

    The cheapest of all choices together, where a row without a column costs ``alone``: the
    Hungarian method by shortest augmenting paths (Kuhn 1955, Munkres 1957), O(N^2 (N + M)). Finite
    costs are to be below 1e6 in absolute value; infinite ones are never taken.
    """
    rows, real = costs.shape
    # A row's own empty partner keeps every row matched.
    padded = np.concatenate([costs, np.full((rows, rows), alone)], axis=1)
    padded = np.where(np.isfinite(padded), padded, _FORBIDDEN)
    columns = real + rows
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    owner = np.full(columns, -1)
    for start in range(rows):
        # Dijkstra from the new row over reduced costs, to the nearest column without an owner.
        reach = np.full(columns, np.inf)
        came_from = np.full(columns, -1)
        done = np.zeros(columns, bool)
        row, column, length = start, -1, 0.0
        while True:
            through = length + padded[row] - row_price[row] - column_price
            nearer = ~done & (through < reach)
            reach[nearer], came_from[nearer] = through[nearer], column
            column = int(np.where(done, np.inf, reach).argmin())
            length = float(reach[column])
            done[column] = True
            if owner[column] < 0:
                break
            row = int(owner[column])
        row_price[start] += length
        row_price[owner[done & (owner >= 0)]] += length - reach[done & (owner >= 0)]
        column_price[done] -= length - reach[done]
        while column >= 0:  # back along the path, each column takes the row before it
            previous = int(came_from[column])
            owner[column] = start if previous < 0 else owner[previous]
            column = previous
    chosen = [-1] * rows
    for column in range(real):
        row = int(owner[column])
        if row >= 0 and np.isfinite(costs[row, column]):
            chosen[row] = column
    return chosen
