"""Data parallel: two processes with half of the data each do what one does with all of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn

from core.hamu import HAMU, Step

RANKS = 2
STEPS = 5
TOLERANCE = 1e-5
"""Of the largest weight: float32 sums in another order, carried through five steps."""


def _model() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def _data() -> tuple[Tensor, Tensor]:
    """32 retain records, then 8 to forget."""
    generator = torch.Generator().manual_seed(11)
    return torch.randn(40, 6, generator=generator), torch.randint(3, (40,), generator=generator)


def _steps(model: nn.Module, share: slice, **options: Any) -> list[Step]:
    """Five steps on a share of both sets; ``share`` selects every n-th record."""
    x, y = _data()
    optimizer = HAMU(model.parameters(), 0.05, quota_ratio=0.3, **options)

    def loss(of: slice) -> Tensor:
        return nn.functional.cross_entropy(model(x[of][share]), y[of][share])

    return [optimizer.step(retain_loss=lambda: loss(slice(32)), forget_loss=lambda: loss(slice(32, 40)))
            for _ in range(STEPS)]  # fmt: skip


def _result(model: nn.Module, steps: list[Step]) -> dict[str, Any]:
    return {"weights": [weight.detach() for weight in model.parameters()], "rows": [step.row() for step in steps]}


def _join(rank: int, folder: str) -> None:
    # The processes meet in a file and talk over ports that the system picks, so no port has to be guessed.
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)


def _even(rank: int, folder: str) -> None:
    """Each process steps on its half."""
    _join(rank, folder)
    model = _model()
    group = torch.distributed.group.WORLD
    torch.save(_result(model, _steps(model, slice(rank, None, RANKS), group=group)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _lopsided(rank: int, folder: str) -> None:
    """Only rank 0 has a gradient for the second weight, and only rank 1 has a loss that is finite."""
    _join(rank, folder)
    first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4))
    optimizer = HAMU([first, second], 0.1, max_grad_norm=None, group=torch.distributed.group.WORLD)
    both = {"retain_loss": lambda: first.sum() + (2 * second.sum() if rank == 0 else 0.0)}
    both["forget_loss"] = lambda: first.square().sum() / 2
    assessment = optimizer.assess(**both)  # pyright: ignore[reportArgumentType]
    both["retain_loss"] = lambda: first.sum() * (torch.nan if rank == 0 else 1.0)
    step = optimizer.step(**both)  # pyright: ignore[reportArgumentType]
    torch.save(
        {"parts": assessment.parts, "reason": step.stop_reason, "weights": [first, second]}, f"{folder}/{rank}.pt"
    )
    torch.distributed.destroy_process_group()


def _spawn(work: Any, folder: Path) -> list[dict[str, Any]]:
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=RANKS)  # pyright: ignore[reportPrivateImportUsage]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return _spawn(_even, tmp_path_factory.mktemp("even"))


def test_two_processes_reach_what_one_reaches(halves: list[dict[str, Any]]) -> None:
    model = _model()
    alone = _result(model, _steps(model, slice(None)))
    assert not any(row["should_stop"] for row in alone["rows"])
    for ours, theirs in zip(halves[0]["weights"], alone["weights"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE * float(theirs.abs().max()))
    for ours, theirs in zip(halves[0]["rows"], alone["rows"], strict=True):
        assert ours == {
            k: pytest.approx(v, rel=1e-4, abs=1e-6) if isinstance(v, float) else v for k, v in theirs.items()
        }


def test_all_ranks_hold_the_same_bits(halves: list[dict[str, Any]]) -> None:
    assert halves[0]["rows"] == halves[1]["rows"]
    assert all(torch.equal(a, b) for a, b in zip(halves[0]["weights"], halves[1]["weights"], strict=True))


def test_a_gradient_or_a_bad_loss_on_one_rank_counts_on_all(tmp_path: Path) -> None:
    for result in _spawn(_lopsided, tmp_path):
        # first: r = 1, f = 1; second: r = (2 + 0)/2 on four elements, f = 0
        torch.testing.assert_close(result["parts"], torch.tensor([[3.0, 3.0, 3.0], [4.0, 0.0, 0.0]]).double())
        assert result["reason"] == "non_finite"
        assert all(bool((weight == 1).all()) for weight in result["weights"])
