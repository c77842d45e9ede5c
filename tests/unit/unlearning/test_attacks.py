"""Attacks do what they say, and leave the weights as they found them, bit for bit."""

import math
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from core.unlearning.attacks.features import features, last_layer
from core.unlearning.attacks.quantisation import quantised, rounded
from core.unlearning.attacks.relearning import LONGEST, STEPS, Split, relearn, split, taught_of, way
from core.unlearning.bench import Bench
from core.unlearning.divergence import divergence, keep
from tests.unit.unlearning.peers.tiny import Point, Points, bench_of, weight_of

A: Point = (1.0, 0.0, 0)
B: Point = (0.0, 2.0, 1)


def points(*made: Point) -> Any:
    return Points(made)


# --- quantisation -----------------------------------------------------------------------------------------------


def test_each_channel_is_rounded_to_steps_of_its_own_scale() -> None:
    weight = torch.tensor([[0.7, -0.36, 0.26], [70.0, -36.0, 0.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.7, -0.4, 0.3], [70.0, -40.0, 0.0], [0.0, 0.0, 0.0]])  # int4: seven steps to the largest
    torch.testing.assert_close(rounded(weight, 4), expected)


def test_eight_bits_lose_less_than_half_a_step_and_the_shape_stays() -> None:
    weight = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    step = weight.flatten(1).abs().amax(dim=1) / 127
    assert rounded(weight, 8).shape == weight.shape
    assert bool(((rounded(weight, 8) - weight).flatten(1).abs() <= step[:, None] / 2 * 1.001).all())


def test_weights_come_back_bit_for_bit_even_after_a_failure() -> None:
    model = nn.Linear(5, 3)
    before = [weight.detach().clone() for weight in model.parameters()]
    with suppress(ValueError), quantised(model, 4):
        assert not torch.equal(model.weight, before[0])
        assert torch.equal(model.bias, before[1])
        raise ValueError("stop")
    assert all(torch.equal(weight, was) for weight, was in zip(model.parameters(), before, strict=True))


# --- relearning -------------------------------------------------------------------------------------------------


def taught(bench: Bench, lesson: Any, exam: Any, length: float) -> np.ndarray:
    return relearn(bench, Split(lesson, exam), length=length)


def test_a_lesson_on_the_same_class_lowers_the_exam_and_leaves_no_trace() -> None:
    bench = bench_of(forget=[A], retain=[B])
    before = weight_of(bench).clone()
    curve = taught(bench, points(A), points(A, A), length=1.0)
    assert curve.shape == (2, STEPS + 1)
    assert curve[:, 0].tolist() == pytest.approx([math.log(2)] * 2)
    # From zero weights every step goes along e₁ of both classes: after the whole way of 1 the logits are ±1/√2.
    assert curve[:, -1].tolist() == pytest.approx([math.log1p(math.exp(-math.sqrt(2)))] * 2, rel=1e-5)
    assert torch.equal(weight_of(bench), before)
    assert all(weight.grad is None for weight in bench.model.trainable.values())


def test_the_way_is_that_of_the_run_but_not_beyond_a_share_of_the_weights() -> None:
    weights = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    assert way(weights, 0.01) == 0.01
    assert way(weights, 100.0) == pytest.approx(5 * LONGEST)


def test_what_is_taught_is_not_examined() -> None:
    many = points(*[(float(i), 0.0, 0) for i in range(20)])
    halves = split(many, taught=taught_of(20), examined=7, rng=np.random.default_rng(0))
    lesson, exam = ({float(example.values[0]) for example in half} for half in (halves.lesson, halves.exam))
    assert (len(lesson), len(exam)) == (2, 7)
    assert not lesson & exam
    assert taught_of(3) == 1


# --- features and divergence ------------------------------------------------------------------------------------


def with_classes(classes: int, *layers: nn.Module) -> Any:
    return SimpleNamespace(model=nn.Sequential(*layers), config=SimpleNamespace(num_labels=classes))


def test_the_last_layer_with_an_output_for_each_class_is_the_classifier() -> None:
    body, head = nn.Linear(4, 3), nn.Linear(4, 3)
    assert last_layer(with_classes(3, body, nn.Linear(3, 4), head)) is head
    assert last_layer(with_classes(3, nn.Conv2d(1, 3, 1))) is None


def test_features_are_what_the_classifier_is_given() -> None:
    bench = bench_of(forget=[A, B, A], retain=[B])
    cast("Any", bench.model).config = SimpleNamespace(num_labels=2)
    assert features(bench, bench.forget).tolist() == [[1, 0], [0, 2], [1, 0]]


def test_divergence_from_what_was_said_before_derived_by_hand() -> None:
    bench = bench_of(forget=[A], retain=[A, B, A])
    kept = keep(bench, bench.retain)
    assert divergence(bench, bench.retain, kept).tolist() == pytest.approx([0, 0, 0])
    weight_of(bench)[0, 0] = math.log(3)  # of A: from 1/2 and 1/2 to 3/4 and 1/4; of B nothing changes
    kl = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert divergence(bench, bench.retain, kept).tolist() == pytest.approx([kl, 0, kl], rel=1e-5)


def test_no_more_is_kept_than_fits() -> None:
    bench = bench_of(forget=[A], retain=[A, B, A])
    kept = keep(bench, bench.retain, most_bytes=2 * 2 * 4)  # two records of two float32 choices
    assert len(divergence(bench, bench.retain, kept)) == 2
