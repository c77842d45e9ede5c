"""The figures that ``benchmarks.paper_shapes`` prints, from points whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.shapes import fronts, gain, kappa, problems, stopping
from benchmarks.shapes.problems import Problem
from benchmarks.shapes.workbench import Batches, bench_of, trained


@pytest.fixture(scope="module")
def digits() -> Problem:
    whole = problems.digits()
    size = replace(
        whole.size, draws=1, retain=64, gain_steps=2, stop_steps=3, front_steps=2, front_forget=8, looked_at=16,
        hamu_rates=(0.01,), peer_rates=(1e-4,),
    )  # fmt: skip
    return replace(whole, size=size)


def test_a_split_swaps_the_share_and_keeps_the_size(digits: Problem) -> None:
    pure, mixed, alike = (digits.split(rho, seed=3) for rho in (0.0, 0.5, 1.0))
    zeros = int((digits.groups == 0).sum())
    for forget, retain in (pure, mixed, alike):
        assert len(forget) == zeros
        assert sorted([*forget, *retain]) == list(range(len(digits.groups)))
    assert set(digits.groups[pure[0]]) == {0}
    assert len(set(mixed[0]) & set(pure[0][zeros // 2 :])) == zeros - zeros // 2  # the half that stays
    assert 0.02 < (digits.groups[alike[0]] == 0).mean() < 0.25  # a random sample has a tenth of each digit
    assert len(digits.split(0.25, most=8)[0]) == 8
    first = np.concatenate([digits.split(0.5, seed=seed)[1][:100] for seed in range(20)])
    assert 0.03 < (digits.groups[first] == 0).mean() < 0.08  # 89 zeros among 1,619: what comes first is a fair sample


def test_with_twins_the_forget_set_stays_and_a_share_of_its_twins_is_retained(digits: Problem) -> None:
    groups = np.array([0, 0, 1, 1, 1, -1, -1])
    paired = replace(digits, examples=digits.examples[:7], groups=groups, twins={0: 5, 1: 6})
    for rho, twins in ((0.0, 0), (0.5, 1), (1.0, 2)):
        forget, retain = paired.split(rho)
        assert sorted(forget) == [0, 1]
        assert [set(retain) & {2, 3, 4}, len(set(retain) & {5, 6}), len(retain)] == [{2, 3, 4}, twins, 3 + twins]


def _point(gained: float, cost: float) -> fronts.Point:
    return fronts.Point("m", 0.1, 1, gained, cost)


def test_the_area_is_the_share_of_the_box_that_points_dominate() -> None:
    assert fronts.area([], cap=2.0) == 0.0
    assert fronts.area([_point(3.0, -0.2)], cap=2.0) == 1.0  # beyond the cap and better than free
    assert fronts.area([_point(2.0, 0.5), _point(1.0, 0.0)], cap=2.0) == pytest.approx(0.75)  # (1·1 + 1·½) / 2
    assert fronts.area([_point(2.0, 1.5), _point(-1.0, -1.0)], cap=2.0) == 0.0


def test_the_front_holds_what_nothing_beats() -> None:
    points = [_point(1.0, 0.3), _point(2.0, 0.2), _point(0.5, 0.0), _point(0.4, 0.1)]
    assert fronts.front(points) == [_point(0.5, 0.0), _point(2.0, 0.2)]


def test_the_line_goes_through_points_where_the_quota_decides() -> None:
    free = gain.Point(quota=0.1, asked=0.1, promised=0.5, realised=0.5, feasible=True)
    bound = [gain.Point(q, q, q, 0.9 * q + 0.01, True) for q in (1.0, 2.0, 3.0)]
    fit = gain.fitted([free, *bound, gain.Point(9.0, 9.0, 1.0, 1.0, False)], steps=10, rate=0.1)
    assert (fit.slope, fit.expected, fit.r_squared, fit.points) == pytest.approx((0.9, 1.0, 1.0, 3))
    assert math.isnan(gain.fitted(bound[:2], steps=1, rate=1.0).slope)


def test_stop_and_turn_are_compared_as_a_share_of_the_steps() -> None:
    path = stopping.Path(retain=[3.0, 1.0, 2.0, 4.0], forget=[0.0] * 4, margin=[1.0, 0.5, -0.1, -0.2])
    assert (path.stop, path.turn, path.distance) == (2, 1, 0.25)
    falling = stopping.Path(retain=[3.0, 2.0, 1.0], forget=[0.0] * 3, margin=[1.0, 1.0, -1.0])
    assert math.isnan(falling.distance)
    assert stopping.Path([1.0], [1.0], [1.0]).stop is None


def test_pearson_of_a_line_is_one_and_of_a_constant_not_a_number() -> None:
    assert kappa.pearson([0, 1, 2], [5, 7, 9]) == pytest.approx(1.0)
    assert math.isnan(kappa.pearson([0, 1, 2], [5, 5, 5]))


def test_batches_hold_every_record_once_an_epoch(digits: Problem) -> None:
    batches = Batches(digits.pick(np.arange(10)), 4)
    assert batches.steps(2) == 6
    shown = [batch for _, batch in zip(range(3), batches, strict=False)]
    assert sorted(len(batch) for batch in shown) == [3, 3, 4]
    assert len({id(example) for batch in shown for example in batch}) == 10


def test_every_shape_is_measured_and_leaves_the_weights_alone(
    digits: Problem, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.mktemp("models")
    model = trained(digits, 1, cache)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert len(kappa.kappa_against_rho(digits, model)) == len(kappa.RHOS)
    points = gain.gain_against_quota(digits, model)
    assert all(point.promised >= 0.999 * point.asked for point in points if point.feasible)
    assert len(stopping.path(digits, model).retain) == 3
    assert all(fronts.walks(digits, model, name, 0.5, epochs=1) for name in ("hamu-q", "hamu-u", "scrub"))
    (end,) = fronts.walks(digits, model, "retrain", 0.0, epochs=1)
    assert end.step == bench_of(digits, model, *digits.split(0.0, most=8), measured=0).retain_batches.steps(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    again = trained(digits, 1, cache).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in again.items())
