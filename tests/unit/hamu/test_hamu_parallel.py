"""Two processes take the step that one takes, however data, goals and weights are divided among them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils._python_dispatch import TorchDispatchMode

from core.hamu import HAMU, Share, Step

RANKS = 2
STEPS = 5
TOLERANCE = 1e-5
"""Of the largest weight: float32 sums in another order, carried through five steps."""

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Result = dict[str, Any]


def mlp() -> nn.Module:
    """Layers of 5 and 3 rows and one: neither halves evenly, and one rank has nothing of the last."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3), nn.LayerNorm(3), nn.Linear(3, 3), Scale())


class Scale(nn.Module):
    """One number for all outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(5)
    shape = {"hidden_size": 12, "intermediate_size": 20, "num_attention_heads": 3, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=31, tie_word_embeddings=True, use_cache=False, **shape)  # pyright: ignore[reportArgumentType,reportCallIssue]
    return LlamaForCausalLM(config)


def records(model: nn.Module) -> tuple[Tensor, Tensor]:
    """32 retain records, then 8 to forget."""
    generator = torch.Generator().manual_seed(11)
    if isinstance(model, nn.Sequential):
        return torch.randn(40, 6, generator=generator), torch.randint(3, (40,), generator=generator)
    tokens = torch.randint(31, (40, 7), generator=generator)
    return tokens, tokens


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of a batch, or, without records, zero that still belongs to the graph."""
    if isinstance(model, nn.Sequential):
        return nn.functional.cross_entropy(model(x), y)
    logits = model(input_ids=x).logits[:, :-1]
    return nn.functional.cross_entropy(logits.flatten(0, 1), y[:, 1:].flatten())


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def closure(model: nn.Module, of: slice, *, by_hand: bool = False) -> Callable[[], Share]:
    """The mean over records ``of`` with their number. by_hand: backward in two micro-batches, the loss detached."""
    x, y = (tensor[of].to(device_of(model)) for tensor in records(model))

    def whole() -> Share:
        return Share(loss_of(model, x, y), len(x))

    def in_micro_batches() -> Share:
        total = torch.zeros((), device=x.device)
        for a, b in zip(x.split(2), y.split(2), strict=True):
            part = loss_of(model, a, b) * len(a) / len(x)
            part.backward()
            total += part.detach()
        return Share(total, torch.tensor(float(len(x)), device=x.device))

    return in_micro_batches if by_hand else whole


def five_steps(model: nn.Module, retain: Any, forget: Any, **options: Any) -> Result:
    optimizer = HAMU(model.named_parameters(), 0.05, **({"quota_ratio": 0.3} | options))
    steps = [optimizer.step(retain_loss=retain, forget_loss=forget) for _ in range(STEPS)]
    return result(model, steps)


def result(model: nn.Module, steps: list[Step]) -> Result:
    weights = [weight.detach() for weight in model.parameters()]
    gathered = [w.full_tensor() if hasattr(w, "full_tensor") else w for w in weights]  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    return {"weights": [weight.cpu() for weight in gathered], "rows": [step.row() for step in steps]}


RETAIN, FORGET = slice(0, 32), slice(32, 40)
UNEVEN = ((slice(0, 20), slice(32, 35)), (slice(20, 32), slice(35, 40)))
"""Retain and forget records of each rank."""
OPTIONS: dict[str, dict[str, Any]] = {
    "even": {},
    "uneven": {},
    "goals": {"quota_ratio": 0.2},
    "sharded": {"block": "layer", "max_grad_norm": 0.1},
    "sharded_u": {"block": "model", "variant": "u", "radius": 0.02},
    "replicated": {},
    "inner": {},
    "llama": {},
    "sharded_llama": {},
}


def alone(name: str) -> Result:
    """What one process does with all records."""
    model = llama() if "llama" in name else mlp()
    options = dict(OPTIONS[name])
    if name == "inner":
        options["inner"] = torch.optim.SGD(model.parameters())
    return five_steps(model, closure(model, RETAIN), closure(model, FORGET), **options)


def sharded(model: nn.Module, mesh: Any) -> nn.Module:
    """Every block and the rest as FSDP2 units."""
    blocks = model if isinstance(model, nn.Sequential) else model.model.layers  # pyright: ignore[reportAttributeAccessIssue]
    for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
        if any(True for _ in block.parameters()):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    return model


def together(rank: int, device: torch.device) -> Iterator[tuple[str, Result]]:
    """Every division of the work, this rank's part of it."""
    group = torch.distributed.group.WORLD
    mesh = init_device_mesh(device.type, (RANKS,))
    retain, forget = UNEVEN[rank]

    def run(name: str, model: nn.Module, retain_loss: Any, forget_loss: Any, **more: Any) -> tuple[str, Result]:
        return name, five_steps(model, retain_loss, forget_loss, group=group, **OPTIONS[name], **more)

    model = mlp().to(device)
    halves = [closure(model, slice(of.start + rank, of.stop, RANKS)) for of in (RETAIN, FORGET)]
    yield run("even", model, lambda: halves[0]().loss, lambda: halves[1]().loss)
    model = mlp().to(device)
    yield run("uneven", model, closure(model, retain), closure(model, forget, by_hand=True))
    model = mlp().to(device)
    goals = (closure(model, RETAIN), None) if rank == 0 else (None, closure(model, FORGET))
    yield run("goals", model, *goals)
    for name in ("sharded", "sharded_u"):
        model = sharded(mlp().to(device), mesh)
        yield run(name, model, closure(model, retain), closure(model, forget))
    model = sharded(mlp().to(device), init_device_mesh(device.type, (RANKS, 1), mesh_dim_names=("copies", "parts")))
    yield run("replicated", model, closure(model, retain), closure(model, forget))
    model = sharded(mlp().to(device), mesh)
    inner = torch.optim.SGD(model.parameters())
    yield run("inner", model, closure(model, retain), closure(model, forget), inner=inner)
    model = llama().to(device)
    yield run("llama", model, closure(model, retain), closure(model, forget))
    model = sharded(llama().to(device), mesh)
    yield run("sharded_llama", model, closure(model, retain), closure(model, forget))


class Traffic(TorchDispatchMode):
    """Writes down every collective and how many elements it moves."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in ("c10d", "_c10d_functional"):
            self.seen.append((func._opname, sum(tensor.numel() for tensor in tensors_in(args[0]))))
        return func(*args, **(kwargs or {}))


def tensors_in(argument: Any) -> list[Tensor]:
    return [argument] if isinstance(argument, Tensor) else list(argument)


def traffic(model: nn.Module, rank: int) -> Result:
    """The collectives of one step, and of the passes that it needs."""
    group = torch.distributed.group.WORLD
    retain, forget = (closure(model, of) for of in UNEVEN[rank])
    optimizer = HAMU(model.parameters(), 0.05, group=group)
    for find in (retain, forget):
        find().loss.backward()  # FSDP2 sets itself up in its first pass
    optimizer.release()
    with Traffic() as passes:
        for find in (retain, forget):
            find().loss.backward()
    with Traffic() as whole:
        optimizer.step(retain_loss=retain, forget_loss=forget)
    sizes = [weight.numel() for weight in model.parameters()]
    return {"passes": passes.seen, "whole": whole.seen, "sizes": sizes}


def lopsided() -> Result:
    """Only rank 0 has a gradient for the second weight, and only rank 1 has a loss that is finite."""
    rank = torch.distributed.get_rank()
    first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4))
    optimizer = HAMU([first, second], 0.1, max_grad_norm=None, group=torch.distributed.group.WORLD)

    def retain() -> Tensor:
        return first.sum() + (2 * second.sum() if rank == 0 else 0.0)

    def broken() -> Tensor:
        return first.sum() * (torch.nan if rank == 0 else 1.0)

    def forget() -> Tensor:
        return first.square().sum() / 2

    assessment = optimizer.assess(retain_loss=retain, forget_loss=forget)
    step = optimizer.step(retain_loss=broken, forget_loss=forget)
    nobody = optimizer.step(retain_loss=None, forget_loss=forget)
    weights = [first.detach(), second.detach()]
    return {"parts": assessment.parts, "reasons": [step.stop_reason, nobody.stop_reason], "weights": weights}


def taken_back(rank: int, mesh: Any, *, exact: bool) -> Result:
    """How far sharded weights are from where they were after a step is retracted, and how far the step had led."""
    model = sharded(mlp(), mesh)
    group = torch.distributed.group.WORLD
    optimizer = HAMU(model.parameters(), 0.05, quota_ratio=0.3, group=group, exact_retract=exact)
    before = result(model, [])["weights"]
    step = optimizer.step(retain_loss=closure(model, UNEVEN[rank][0]), forget_loss=closure(model, UNEVEN[rank][1]))
    between = result(model, [])["weights"]
    optimizer.retract(step)
    after = result(model, [])["weights"]
    return {"way": distance(before, between), "left": distance(before, after), "norm": float(step.update_norm)}


def distance(first: list[Tensor], second: list[Tensor]) -> float:
    return float(sum((a - b).square().sum() for a, b in zip(first, second, strict=True)) ** 0.5)


@contextmanager
def refusal(into: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        into[name] = str(error)


def refusals(rank: int, mesh: Any) -> dict[str, str]:
    """What sharded parameters cannot do, refused before anything is exchanged."""
    found: dict[str, str] = {}
    model = sharded(mlp(), mesh)
    with refusal(found, "no group"):
        HAMU(model.parameters())
    with refusal(found, "rounded apart"):
        some = [*model.parameters(), nn.Parameter(torch.ones(2))]
        HAMU(some, group=torch.distributed.group.WORLD, rounding="stochastic")
    alone = [torch.distributed.new_group([one]) for one in range(RANKS)][rank]
    with refusal(found, "smaller group"):
        HAMU(model.parameters(), group=alone)
    optimizer = HAMU(model.parameters(), group=torch.distributed.group.WORLD)
    with refusal(found, "left out"):
        optimizer.assess(retain_loss=None, forget_loss=None)
    with refusal(found, "weighted too late"):
        optimizer.assess(retain_loss=lambda: Share(torch.tensor(1.0), 3), forget_loss=None)
    return found


def join(rank: int, folder: str, backend: str) -> torch.device:
    # The processes meet in a file and talk over ports that the system picks, so no port has to be guessed.
    torch.set_num_threads(1)
    device = torch.device("cpu") if backend == "gloo" else torch.device("cuda", rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(backend, init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    return device


def work(rank: int, folder: str, backend: str) -> None:
    device = join(rank, folder, backend)
    found: dict[str, Any] = dict(together(rank, device))
    if backend == "gloo":
        mesh = init_device_mesh("cpu", (RANKS,))
        found["traffic"] = {"data": traffic(mlp(), rank), "sharded": traffic(sharded(mlp(), mesh), rank)}
        found["lopsided"] = lopsided()
        found["retract"] = {exact: taken_back(rank, mesh, exact=exact) for exact in (False, True)}
        found["refusals"] = refusals(rank, mesh)
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def spawn(folder: Path, backend: str) -> list[dict[str, Any]]:
    torch.multiprocessing.spawn(work, (str(folder), backend), nprocs=RANKS)  # pyright: ignore[reportPrivateImportUsage]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Everything that the two processes found; they are started once."""
    return spawn(tmp_path_factory.mktemp("ranks"), "gloo")


def assert_same_steps(ours: Result, theirs: Result, tolerance: float = TOLERANCE) -> None:
    assert not any(row["should_stop"] for row in theirs["rows"])
    for a, b in zip(ours["weights"], theirs["weights"], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(1.0, float(b.abs().max())))
    for a, b in zip(ours["rows"], theirs["rows"], strict=True):
        assert a == {k: pytest.approx(v, rel=1e-4, abs=1e-6) if isinstance(v, float) else v for k, v in b.items()}


@pytest.mark.parametrize("name", OPTIONS)
def test_two_processes_reach_what_one_reaches(name: str, ranks: list[dict[str, Any]]) -> None:
    assert_same_steps(ranks[0][name], alone(name))


@pytest.mark.parametrize("name", OPTIONS)
def test_all_ranks_hold_the_same_bits(name: str, ranks: list[dict[str, Any]]) -> None:
    ours, theirs = (found[name] for found in ranks)
    assert ours["rows"] == theirs["rows"]
    assert all(torch.equal(a, b) for a, b in zip(ours["weights"], theirs["weights"], strict=True))


def test_data_parallel_exchanges_both_gradients_and_four_numbers(ranks: list[dict[str, Any]]) -> None:
    seen = ranks[0]["traffic"]["data"]
    assert seen["passes"] == []
    assert seen["whole"] == [("allreduce_", size) for size in (*seen["sizes"], *seen["sizes"], 4)]


def test_sharding_exchanges_three_numbers_a_tensor_besides_the_passes(ranks: list[dict[str, Any]]) -> None:
    seen = ranks[0]["traffic"]["sharded"]
    assert any("reduce_scatter" in name for name, _ in seen["passes"])
    assert seen["whole"] == [*seen["passes"], ("allreduce_", 4 + 3 * len(seen["sizes"]))]


def test_a_gradient_or_a_bad_loss_on_one_rank_counts_on_all(ranks: list[dict[str, Any]]) -> None:
    for found in (rank["lopsided"] for rank in ranks):
        # first: r = 1, f = 1; second: r = (2 + 0)/2 on four elements, f = 0
        torch.testing.assert_close(found["parts"], torch.tensor([[3.0, 3.0, 3.0], [4.0, 0.0, 0.0]]).double())
        assert found["reasons"] == ["non_finite", "non_finite"]  # the second: a loss in which nobody had a part
        assert all(bool((weight == 1).all()) for weight in found["weights"])


def test_a_sharded_step_is_as_long_as_it_says_and_can_be_taken_back(ranks: list[dict[str, Any]]) -> None:
    for exact, found in ranks[0]["retract"].items():
        assert found["way"] == pytest.approx(found["norm"], rel=1e-4)
        assert found["way"] > 1e-3
        assert found["left"] <= (0.0 if exact else 1e-6)


def test_what_sharded_parameters_cannot_do_is_refused(ranks: list[dict[str, Any]]) -> None:
    found = ranks[0]["refusals"]
    assert found["no group"] == "sharded parameters need their group"
    assert "all parameters to be sharded, or none" in found["rounded apart"]
    assert "lies on 2 ranks" in found["smaller group"]
    assert "every rank takes part in both losses" in found["left out"]
    assert "returns a bare loss" in found["weighted too late"]


def test_without_a_group_both_losses_are_needed() -> None:
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="both losses are needed"):
        HAMU([weight]).step(retain_loss=lambda: weight.sum(), forget_loss=None)


@pytest.mark.skipif(torch.cuda.device_count() < RANKS, reason="NCCL needs a GPU for each of two processes")
def test_two_gpus_reach_what_one_process_reaches(tmp_path: Path) -> None:
    found = spawn(tmp_path, "nccl")
    for name in OPTIONS:
        assert_same_steps(found[0][name], alone(name), tolerance=1e-4)
