"""Distance moved, derived by hand."""

import torch

from core.evaluation.displacement import displacement, displacement_by_layer


def test_distance_over_all_tensors() -> None:
    before = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    after = [("a", torch.tensor([3.0, 3.0])), ("b", torch.tensor([0.0])), ("new", torch.ones(9))]
    assert displacement(before, after) == {"displacement": 5.0, "relative_displacement": 1.0}


def test_what_stayed_has_not_moved() -> None:
    weights = {"a": torch.zeros(3)}
    assert displacement(weights, weights.items()) == {"displacement": 0.0, "relative_displacement": 0.0}


def test_moving_from_zero_is_a_share_of_one() -> None:
    assert displacement({"a": torch.zeros(1)}, [("a", torch.ones(1))])["relative_displacement"] == 1.0


def test_each_layer_has_its_own_distance() -> None:
    before = {"a.b.weight": torch.tensor([3.0]), "a.b.bias": torch.tensor([4.0]), "head": torch.tensor([2.0])}
    after = {"a.b.weight": torch.tensor([6.0]), "a.b.bias": torch.tensor([8.0]), "head": torch.tensor([2.0])}
    assert displacement_by_layer(before, after.items()) == {
        "a.b": {"displacement": 5.0, "relative_displacement": 1.0},
        "head": {"displacement": 0.0, "relative_displacement": 0.0},
    }
