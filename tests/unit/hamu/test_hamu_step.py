"""The step against what it promises: constraint, radius, optimality, invariances."""

import math

import pytest
import torch
from torch import Tensor

SCALES = [1e-10, 1e-5, 1.0, 1e5, 1e10]
COSINES = [-1.0, -0.9, -0.3, 0.0, 0.4, 0.95, 0.9999, 1.0]
GO_ON = {"stop_rule": "none", "on_infeasible": "clip"}


def pair(
    cosine: float, *, seed: int = 0, size: int = 200, scales: tuple[float, float] = (1.0, 1.0)
) -> tuple[Tensor, Tensor]:
    """Two float64 gradients of given norms with the given cosine."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, size, generator=generator, dtype=torch.float64)
    x = x / x.norm()
    y = y - (x @ y) * x
    y = y / y.norm()
    return scales[0] * x, scales[1] * (cosine * x + math.sqrt(1 - cosine**2) * y)


def best_change(a: Tensor, b: Tensor, radius: float, quota: float) -> float:
    """Slow reference: least a·Δ over a fine grid of the disc's rim in span(a, b) and of the constraint's chord."""
    e1 = b / b.norm()
    rest = a - (a @ e1) * e1
    e2 = rest / rest.norm() if rest.norm() > 1e-12 * a.norm() else torch.zeros_like(a)
    angles = torch.linspace(0, 2 * math.pi, 200_001, dtype=torch.float64)
    along, across = radius * angles.cos(), radius * angles.sin()
    level = quota / float(b.norm())
    half = math.sqrt(max(radius**2 - level**2, 0.0))
    along = torch.cat((along, torch.full_like(angles, level)))
    across = torch.cat((across, torch.linspace(-half, half, len(angles), dtype=torch.float64)))
    feasible = along >= level * (1 - 1e-12)
    return float((along * (a @ e1) + across * (a @ e2))[feasible].min())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("other", SCALES)
def test_quota_is_met_within_the_radius_at_any_scale(take, dtype, scale, other):
    rounding = max(4 * torch.finfo(dtype).eps, 1e-11)  # the cosine 0.9999 costs four digits
    for seed, cosine in enumerate(COSINES):
        for ratio in (0.01, 0.5, 0.99):
            r, f = (g.to(dtype) for g in pair(cosine, seed=seed, scales=(scale, other)))
            step, (delta,) = take([r], [f], quota_ratio=ratio, **GO_ON)
            radius, delta = 0.1 * float(r.double().norm()), delta.double()
            reach = radius * float(f.double().norm())
            assert float(delta.norm()) <= radius * (1 + rounding)
            assert float(f.double() @ delta) >= ratio * reach - rounding * reach
            assert step.row()["infeasible"] == 0.0


@pytest.mark.parametrize("cosine", COSINES)
@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.7, 0.95])
def test_no_better_step_exists(take, cosine, ratio):
    r, f = pair(cosine, seed=3, scales=(0.3, 2.0))
    _, (delta,) = take([r], [f], quota_ratio=ratio, **GO_ON)
    radius = 0.1 * float(r.norm())
    best = best_change(r, f, radius, ratio * radius * float(f.norm()))
    assert float(r @ delta) == pytest.approx(best, abs=2e-5 * radius * float(r.norm()))


@pytest.mark.parametrize("cosine", [-0.3, 0.0, 0.4, 0.95])
def test_rectified_step_is_the_papers_formula(take, cosine):
    r, f = pair(cosine, seed=5, scales=(0.7, 1.3))
    step, (delta,) = take([r], [f], quota_ratio=0.6, **GO_ON)
    radius = 0.1 * r.norm()
    quota = 0.6 * radius * f.norm()
    orthogonal = r - (r @ f) / (f @ f) * f
    wanted = quota / (f @ f) * f - (radius**2 - quota**2 / (f @ f)).sqrt() * orthogonal / orthogonal.norm()
    assert step.row()["rectified"] == 1.0
    torch.testing.assert_close(delta, wanted, rtol=1e-10, atol=1e-12)


def test_direct_step_follows_the_retain_gradient_alone(take):
    r, f = pair(-0.8)
    step, (delta,) = take([r], [f], quota_ratio=0.5)
    assert step.row()["direct"] == 1.0
    torch.testing.assert_close(delta, -0.1 * r)


@pytest.mark.parametrize("block", ["tensor", "model"])
def test_every_block_gets_its_own_exact_step(take, block):
    pairs = [pair(c, seed=i, size=50 + 1500 * i, scales=(0.5 + i, 1.0)) for i, c in enumerate((0.5, -0.9, 0.1))]
    retain, forget = [r for r, _ in pairs], [f for _, f in pairs]
    step, deltas = take(retain, forget, block=block, quota_ratio=0.4)
    if block == "model":
        retain, forget, deltas = [torch.cat(retain)], [torch.cat(forget)], [torch.cat(deltas)]
    norms = [float(r.norm() * f.norm()) for r, f in zip(retain, forget, strict=True)]
    for r, f, delta, p in zip(retain, forget, deltas, norms, strict=True):
        best = best_change(r, f, 0.1 * float(r.norm()), 0.4 * 0.1 * p)
        assert float(r @ delta) == pytest.approx(best, abs=1e-8)
    gain = sum(float(f @ d) for f, d in zip(forget, deltas, strict=True))
    assert gain >= 0.4 * 0.1 * sum(norms) * (1 - 1e-12)
    assert float(step.promised_forget_gain) == pytest.approx(gain)
    retained = sum(float(r @ d) for r, d in zip(retain, deltas, strict=True))
    assert float(step.predicted_retain_change) == pytest.approx(retained)
    assert float(step.update_norm) == pytest.approx(float(torch.cat(deltas).norm()))


def test_rotating_the_weights_rotates_the_step(take):
    r, f = pair(0.3, size=40, scales=(0.2, 3.0))
    generator = torch.Generator().manual_seed(9)
    turn, _ = torch.linalg.qr(torch.randn(40, 40, generator=generator, dtype=torch.float64))
    _, (delta,) = take([r], [f])
    _, (turned,) = take([turn @ r], [turn @ f])
    torch.testing.assert_close(turned, turn @ delta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("of_retain", "of_forget"), [(1.0, 1e6), (1.0, 1e-6), (1e3, 1.0)])
def test_scaling_a_loss_does_not_turn_the_step(take, of_retain, of_forget):
    """The dial is a share of S, so only the length follows the retain gradient."""
    r, f = pair(0.3)
    _, (delta,) = take([r], [f])
    _, (scaled,) = take([of_retain * r], [of_forget * f])
    torch.testing.assert_close(scaled, of_retain * delta, rtol=1e-9, atol=1e-12 * of_retain)


@pytest.mark.parametrize("cosine", [-0.9, -0.2, 0.3, 0.9])
def test_u_is_the_mirror_of_q(take, cosine):
    """HAMU-U on (r, f) is HAMU-Q on (-f, -r)."""
    r, f = pair(cosine, scales=(0.4, 1.7))
    _, (u,) = take([r], [f], variant="u", **GO_ON)
    _, (q,) = take([-f], [-r], variant="q", **GO_ON)
    torch.testing.assert_close(u, q, rtol=1e-12, atol=1e-15)
    assert -float(r @ u) >= 0.5 * 0.1 * float(f.norm() * r.norm()) * (1 - 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [3.0, 1 / 3, 0.1])
def test_parallel_pairs_take_the_forward_step_only(take, dtype, factor):
    """Parallel up to rounding: there is no sideways direction, only dust."""
    r = pair(0.0)[0].to(dtype)
    step, (delta,) = take([r], [factor * r], quota_ratio=0.5, stop_rule="none")
    assert step.row()["colinear"] == 1.0
    torch.testing.assert_close(delta, 0.05 * r, rtol=1e-5, atol=1e-9)


def test_single_numbers_never_miss_the_quota(take):
    generator = torch.Generator().manual_seed(1)
    r, f = torch.randn(2, 300, generator=generator)
    step, deltas = take(list(r[:, None]), list(f[:, None]), quota_ratio=0.5, stop_rule="none")
    gains = f.double() * torch.cat(deltas).double()
    assert bool((gains >= step.quotas * (1 - 1e-6)).all())
    assert step.row()["infeasible"] == 0.0


@pytest.mark.parametrize("sine", [1e-3, 1e-4, 3e-5, 1e-6])
def test_nearly_parallel_pairs_keep_both_promises(take, sine):
    r, f = (g.float() for g in pair(math.sqrt(1 - sine**2), size=5000))
    _, (delta,) = take([r], [f], quota_ratio=0.5, stop_rule="none")
    radius = 0.1 * float(r.double().norm())
    reach = radius * float(f.double().norm())
    assert float(delta.double().norm()) <= radius * (1 + 3e-6)
    assert float(f.double() @ delta.double()) >= 0.5 * reach - 1e-6 * reach


def test_without_a_forget_gradient_the_rest_of_the_model_carries_the_quota(take):
    r, f = pair(0.2)
    _, (first, second) = take([r, r], [f, None], quota_ratio=0.5)
    reach = 0.1 * float(r.norm() * f.norm())
    assert float(f @ first) == pytest.approx(0.5 * reach)
    torch.testing.assert_close(second, -0.1 * r)


def test_without_a_retain_gradient_a_tensor_has_no_radius(take):
    r, f = pair(0.2)
    step, (first, second) = take([r, None], [f, f], quota_ratio=0.5)
    assert bool(first.any())
    assert not bool(second.any())
    assert step.row()["rectified"] == 1.0


def test_a_fixed_radius_moves_even_where_retaining_asks_nothing(take):
    _, f = pair(0.2)
    step, (delta,) = take([None], [f], radius=0.3, radius_scope="block", quota="uniform", quota_ratio=0.5)
    assert step.row()["colinear"] == 1.0
    torch.testing.assert_close(delta, 0.15 * f / f.norm())


def test_a_fixed_radius_bounds_the_whole_step(take):
    pairs = [pair(0.1 * i, seed=i) for i in range(5)]
    retain, forget = [r for r, _ in pairs], [f for _, f in pairs]
    for scope, wanted in (("total", 0.02), ("block", 0.02 * math.sqrt(5))):
        _, deltas = take(retain, forget, radius=0.02, radius_scope=scope)
        assert float(torch.cat(deltas).norm()) == pytest.approx(wanted)


def test_infeasible_steps_stop_or_stay_within_the_radius(take):
    r, f = pair(0.2)
    step, (delta,) = take([r], [f], fixed_quota=1.0)
    assert step.stop_reason == "infeasible"
    assert not bool(delta.any())
    step, (delta,) = take([r], [f], fixed_quota=1.0, **GO_ON)
    assert step.row()["infeasible"] == 1.0
    torch.testing.assert_close(delta, 0.1 * r.norm() * f / f.norm())


def test_nothing_to_forget_is_infeasible_whatever_the_setting(take):
    r, f = pair(0.2)
    step, (delta,) = take([r], [0 * f], **GO_ON)
    assert step.stop_reason == "infeasible"
    assert not bool(delta.any())


@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 70_000, 200_000])
def test_tensors_of_any_size_are_reduced_and_moved_whole(take, size):
    r, f = (g.float() for g in pair(0.3, size=max(size, 3)))
    r, f = r[:size], f[:size] + (0.5 if size == 1 else 0.0)
    step, (delta,) = take([r], [f], stop_rule="none")
    exact = torch.stack((r.double() @ r.double(), f.double() @ f.double(), r.double() @ f.double()))
    torch.testing.assert_close(step.gram[0], exact, rtol=1e-13, atol=1e-16)
    wanted = step.along_forget * f.double() + step.along_retain * r.double()
    torch.testing.assert_close(delta, wanted.float(), rtol=1e-6, atol=1e-12)


def test_gradients_in_another_memory_order_are_matched_element_by_element(take):
    r, f = pair(0.3, size=60)
    r, f = r.view(12, 5), f.view(12, 5)
    _, (delta,) = take([r], [f])
    _, (turned,) = take([r], [f.t().contiguous().t()])
    torch.testing.assert_close(turned, delta)
