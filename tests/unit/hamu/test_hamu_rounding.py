"""Rounding that is right on average, and a step that uses it on bfloat16 weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core.hamu import HAMU, rounding
from core.hamu.rounding import round_stochastically

NARROW = (torch.bfloat16, torch.float16)
ULP = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
"""Distance of the numbers of a type in [1, 2)."""


def drawn(value: float, dtype: torch.dtype, count: int = 20_000) -> torch.Tensor:
    exact = torch.full((count,), value, dtype=torch.float64)
    return round_stochastically(exact, dtype, torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 0.75, 0.999])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_number_between_two_neighbours_becomes_the_upper_one_as_often_as_it_is_close(dtype, share, sign):
    found = drawn(sign * (1.25 + share * ULP[dtype]), dtype)
    assert set(found.tolist()) <= {sign * 1.25, sign * (1.25 + ULP[dtype])}
    up = float((found != sign * 1.25).double().mean())
    assert up == pytest.approx(share, abs=5 * (share * (1 - share) / len(found)) ** 0.5)


@pytest.mark.parametrize("dtype", NARROW)
@given(value=st.floats(-1e4, 1e4, width=16), seed=st.integers(0, 2**31))
@settings(max_examples=50)
def test_what_the_type_can_represent_stays(dtype, value, seed):
    exact = torch.full((64,), value, dtype=torch.float64).to(dtype).double()
    assert torch.equal(round_stochastically(exact, dtype, torch.Generator().manual_seed(seed)).double(), exact)


@pytest.mark.parametrize("dtype", [*NARROW, torch.float32])
@given(value=st.floats(-6e4, 6e4), seed=st.integers(0, 2**31))
@settings(max_examples=50)
def test_the_result_is_one_of_the_two_neighbours(dtype, value, seed):
    exact = torch.full((64,), value, dtype=torch.float64)
    found = round_stochastically(exact, dtype, torch.Generator().manual_seed(seed))
    below, above = (torch.full_like(found, end) for end in (-torch.inf, torch.inf))
    assert bool((torch.nextafter(found, below).double() < exact).all())
    assert bool((torch.nextafter(found, above).double() > exact).all())


def test_the_small_numbers_of_float16_are_right_on_average_too():
    """Below 2^-14 they lie 2^-24 apart, however small they are."""
    found = drawn(-3.25 * 2.0**-24, torch.float16) * 2**24
    assert set(found.tolist()) == {-3.0, -4.0}
    assert float(found.mean()) == pytest.approx(-3.25, abs=5 * (0.25 * 0.75 / len(found)) ** 0.5)


@pytest.mark.parametrize("dtype", NARROW)
def test_what_is_too_large_or_not_finite_is_cast_as_ever(dtype):
    beyond = torch.tensor([1e300, -1e300, torch.inf, -torch.inf, torch.nan], dtype=torch.float64)
    torch.testing.assert_close(round_stochastically(beyond, dtype), beyond.to(dtype), equal_nan=True)


@pytest.mark.parametrize("shape", [(), (70,), (50, 70), (0, 3)])
def test_settled_weights_can_be_stored_without_loss_and_moved_by_nothing_on_average(shape, monkeypatch):
    """In pieces of two rows, and of weights that do not lie in one piece of memory. Near 1.1 the spacing is 2^-7."""
    monkeypatch.setattr(rounding, "PIECE", 140)
    total = torch.zeros(shape, dtype=torch.float64)
    for seed in range(100):
        weight = torch.full(shape[::-1], 1.1).T if len(shape) == 2 else torch.full(shape, 1.1)
        rounding.settle(weight, torch.bfloat16, torch.Generator().manual_seed(seed))
        assert torch.equal(weight.to(torch.bfloat16).float(), weight)
        total += weight.double() / 100
    spread = 2.0**-7 / 2 / max(1, 100 * total.numel()) ** 0.5
    if total.numel():
        assert float(total.mean()) == pytest.approx(1.1, abs=5 * spread)


def stepped(size: float, handing, *, count: int = 4096, steps: int = 1, **options) -> torch.Tensor:
    """Weights of 1 in bfloat16 after steps of ``-size`` each along the retain gradient."""
    weight = nn.Parameter(torch.ones(count, dtype=torch.bfloat16))
    gradient = torch.ones(count, dtype=torch.bfloat16)
    optimizer = HAMU([weight], lr=size, quota_ratio=0.0, max_grad_norm=None, stop_rule="none", **options)
    for _ in range(steps):
        retain = handing([weight], [gradient])
        optimizer.step(retain_loss=retain, forget_loss=handing([weight], [None]))
    return weight.detach().double()


def test_steps_below_the_last_place_vanish_when_rounded_to_the_nearest(handing):
    assert torch.equal(stepped(1e-3, handing, steps=20), torch.ones(4096, dtype=torch.float64))


def test_steps_below_the_last_place_arrive_on_average_when_rounded_stochastically(handing):
    """Below 1 the numbers lie 2^-8 apart: 20 steps of 1e-3 move the mean by 0.02, with a spread of at most
    sqrt(20 · 1e-3 · 2^-8 / 4096) ≈ 1.4e-4."""
    weights = stepped(1e-3, handing, steps=20, rounding="stochastic")
    assert float(1 - weights.mean()) == pytest.approx(0.02, abs=5 * 1.4e-4)


def test_a_rounded_steps_expectation_is_the_step_of_a_wider_type(take):
    generator = torch.Generator().manual_seed(0)
    retain, forget = (torch.randn(300, generator=generator).to(torch.bfloat16) for _ in range(2))
    _, (wide,) = take([retain.double()], [forget.double()], lr=1e-3)
    mean = torch.zeros(300, dtype=torch.float64)
    for seed in range(200):
        weights = [torch.full((300,), 3.0, dtype=torch.bfloat16).requires_grad_()]
        optimizer = HAMU(weights, 1e-3, max_grad_norm=None, rounding="stochastic", rounding_seed=seed * 1000)
        optimizer.step(
            retain_loss=lambda w=weights: w[0].double() @ retain.double(),
            forget_loss=lambda w=weights: w[0].double() @ forget.double(),
        )
        mean += (weights[0].detach().double() - 3.0) / 200
    # Numbers near 3 lie 2^-6 apart: the spread of a mean of 200 draws is sqrt(|Δ| 2^-6 / 200).
    spread = (wide.abs() * 2.0**-6 / 200).sqrt()
    assert float(((mean - wide) / spread.clamp(min=1e-9)).abs().max()) < 6
    assert float((mean @ wide) / (wide @ wide)) == pytest.approx(1.0, abs=0.1)


def test_the_seed_decides_and_the_state_carries_on(handing):
    first, same = (stepped(1e-3, handing, steps=3, rounding="stochastic") for _ in range(2))
    assert torch.equal(first, same)
    assert not torch.equal(first, stepped(1e-3, handing, steps=3, rounding="stochastic", rounding_seed=7))
    optimizers = [HAMU([nn.Parameter(torch.ones(3))], rounding="stochastic") for _ in range(2)]
    optimizers[0].param_groups[0]["rounding_seed"] = 5
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    assert optimizers[1].param_groups[0]["rounding_seed"] == 5


def test_weights_of_several_types_and_lengths_move_together(handing):
    shapes = {(3000,): torch.bfloat16, (2, 5): torch.float32, (1025,): torch.bfloat16, (7,): torch.float64}
    weights = [torch.ones(shape, dtype=dtype, requires_grad=True) for shape, dtype in shapes.items()]
    gradients = [torch.ones_like(weight) for weight in weights]
    optimizer = HAMU(weights, lr=0.25, quota_ratio=0.0, max_grad_norm=None, rounding="stochastic")
    optimizer.step(retain_loss=handing(weights, gradients), forget_loss=handing(weights, [None] * 4))
    for weight in weights:
        assert torch.equal(weight.detach().double(), torch.full(weight.shape, 0.75, dtype=torch.float64))


def test_a_step_that_stops_moves_nothing(handing):
    weight = nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    gradient = torch.full((8,), torch.nan, dtype=torch.bfloat16)
    optimizer = HAMU([weight], lr=0.1, rounding="stochastic")
    optimizer.step(retain_loss=handing([weight], [gradient]), forget_loss=handing([weight], [gradient]))
    assert torch.equal(weight.detach(), torch.ones(8, dtype=torch.bfloat16))


def test_a_stochastic_step_is_retracted_only_from_a_copy(handing):
    for exact in (True, False):
        weight = nn.Parameter(torch.ones(512, dtype=torch.bfloat16))
        side = torch.arange(512, dtype=torch.bfloat16)
        optimizer = HAMU([weight], lr=1e-3, stop_rule="none", rounding="stochastic", exact_retract=exact)
        step = optimizer.step(retain_loss=handing([weight], [side]), forget_loss=handing([weight], [side.flip(0)]))
        assert not torch.equal(weight.detach(), torch.ones_like(weight))
        if exact:
            optimizer.retract(step)
            assert torch.equal(weight.detach(), torch.ones_like(weight))
        else:
            with pytest.raises(ValueError, match="exact_retract"):
                optimizer.retract(step)


def test_an_inner_optimizer_does_its_own_rounding():
    weight = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="inner"):
        HAMU([weight], rounding="stochastic", inner=torch.optim.SGD([weight], lr=0.1))
