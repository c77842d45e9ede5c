"""The two ways to go through a group, by piece on a CPU and by row elsewhere, give the same numbers."""

import torch

from core.hamu import gram
from core.hamu.gram import Group

SIZES = (5, 1024, 3000, 1)
"""Less than a row, one row, several with a rest, and a single number."""


def _packed() -> tuple[Group, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    first, second = ([torch.randn(size, generator=generator) for size in SIZES] for _ in range(2))
    (group,) = gram.lay_out(first).groups
    rows = [torch.empty(len(group.owner), gram.ROW, dtype=torch.float64) for _ in range(2)]
    return group, gram._pack(group, first, rows[0]), gram._pack(group, second, rows[1])


def test_sums_by_row_equal_sums_by_piece() -> None:
    group, r, f = _packed()
    torch.testing.assert_close(gram._sums_by_piece(group, r, f), gram._sums_by_row(group, r.clone(), f))


def test_combination_by_row_equals_combination_by_piece() -> None:
    group, r, f = _packed()
    along = torch.tensor([[0.5, -2.0], [1e-9, 3.0], [0.0, 1.0], [7.0, 0.0]], dtype=torch.float64)
    by_row, by_piece = r.clone(), r.clone()
    gram._combine_by_row(group, by_row, f, along[:, 0], along[:, 1])
    gram._combine_by_piece(group, by_piece, f, along.tolist())
    for x, y in zip(gram._slots(group, by_row), gram._slots(group, by_piece), strict=True):
        torch.testing.assert_close(x, y)
