"""Distributions over common edges."""

import json
import math

import numpy as np

from core.evaluation.histogram import histograms


def test_all_samples_share_their_edges() -> None:
    found = histograms({"forget": np.array([0.0, 1.0, 2.0, math.inf]), "holdout": np.array([4.0])}, bins=4)
    edges = [0.0, 1.0, 2.0, 3.0, 4.0]
    assert found == {
        "forget": {"edges": edges, "counts": [1, 1, 1, 0], "not_finite": 1},
        "holdout": {"edges": edges, "counts": [0, 0, 0, 1], "not_finite": 0},
    }
    assert json.loads(json.dumps(found)) == found


def test_a_single_value_and_nothing_can_be_drawn() -> None:
    assert histograms({"one": np.array([3.0, 3.0])}, bins=2)["one"]["counts"] == [0, 2]
    assert histograms({"none": np.empty(0)}, bins=2)["none"] == {
        "edges": [0.0, 0.5, 1.0], "counts": [0, 0], "not_finite": 0,
    }  # fmt: skip
