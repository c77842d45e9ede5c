"""What each peer descends along, against gradients derived by hand.

One forget record x = (1, 0), one retain record x = (1, 1), both of class 0. The gradient of the cross-entropy is
(q - e₀) xᵀ with q the probabilities; that of KL(p ‖ q) is (q - p) xᵀ.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from core.unlearning.bench import Bench
from core.unlearning.failures import UnlearningError
from core.unlearning.peer import peer_module
from core.unlearning.peers import PEERS
from core.unlearning.peers.npo import npo
from core.unlearning.peers.retrain import warm_cosine
from core.unlearning.peers.simnpo import simnpo
from core.unlearning.teacher import Teacher
from tests.unit.unlearning.peers.tiny import bench_of, sides_of, weight_of

F_HALF = torch.tensor([[-0.5, 0.0], [0.5, 0.0]])  # at zero weights q = (½, ½)
R_HALF = torch.tensor([[-0.5, -0.5], [0.5, 0.5]])
MOVED = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])  # q = (¾, ¼) for both records
F_MOVED, R_MOVED = F_HALF / 2, R_HALF / 2
F_KL, R_KL = -F_HALF / 2, -R_HALF / 2  # of KL((½, ½) ‖ (¾, ¼))


def gradient(method: str, *, at: Tensor | None = None, **parameters: Any) -> Tensor:
    """Of a run that began at zero weights and is now ``at`` other ones."""
    bench = bench_of(forget=[(1, 0, 0)], retain=[(1, 1, 0)])
    peer = peer_module(method).build(sides_of(bench, **parameters))
    batch = bench.batch(next(iter(bench.retain_batches)))
    peer.gradients(batch)  # the teacher, if there is one, is the model of the first step
    if at is not None:
        weight_of(bench).copy_(at)
    (found,) = peer.gradients(batch)
    assert found is not None
    assert all(weight.grad is None for weight in bench.model.trainable.values())
    return found


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("fine_tune", R_HALF),
        ("gradient_ascent", -F_HALF),
        ("grad_diff", (R_HALF - F_HALF) / 2),
        ("kl", -F_HALF / 2),
        ("scrub", R_HALF / 2),  # at the original both divergences are flat
        ("gru", -F_HALF + R_HALF / 2),  # r·f = ½, r·r = 1
        ("pcgrad", (-F_HALF + R_HALF / 2 + R_HALF - F_HALF) / 2),  # f·f = ½
        ("npo", -F_HALF + R_HALF),  # at the original each record counts in full
    ],
)
def test_at_the_original_weights(method: str, wanted: Tensor) -> None:
    torch.testing.assert_close(gradient(method), wanted)


def test_simnpo_weighs_records_by_their_loss() -> None:
    """dL/dℓ = -2 σ(-βℓ), and ℓ = log 2: with β = 2 that is -2 / (1 + 2²)."""
    torch.testing.assert_close(gradient("simnpo", simnpo_beta=2.0, retain_weight=0.0), -0.4 * F_HALF)
    torch.testing.assert_close(gradient("simnpo", simnpo_beta=2.0, retain_weight=3.0), -0.4 * F_HALF + 3 * R_HALF)


def test_npo_lets_go_of_records_that_have_become_unlikely() -> None:
    """dL/dℓ = -2 σ(-β(ℓ - ℓ₀)) for one answer; here the record became likelier: ℓ - ℓ₀ = log(4/3) - log 2."""
    weight = 2 / (1 + (2 / 3) ** 4)
    torch.testing.assert_close(gradient("npo", at=MOVED, npo_beta=4.0, retain_weight=0.0), -weight * F_MOVED)


def test_kl_pulls_back_to_the_original() -> None:
    torch.testing.assert_close(gradient("kl", at=MOVED), (R_KL - F_MOVED) / 2)


def test_scrub_weighs_its_three_gradients() -> None:
    wanted = (0.3 * R_KL + 0.7 * R_MOVED - F_KL) / 2
    torch.testing.assert_close(gradient("scrub", at=MOVED, scrub_alpha=0.3, scrub_gamma=0.7), wanted)


def test_the_value_of_npo() -> None:
    """ℓ - ℓ₀ = log 2 / (3β) over three tokens: (π/π₀)^β = ½, so the value is (2/β) log(1 + ½)."""
    values = npo(torch.tensor([9.0, 0.5]), torch.tensor([1.0, 3.0]), beta=0.1)
    found = values(torch.tensor([0.5 + math.log(2) / 0.3]), slice(1, 2))
    torch.testing.assert_close(found, torch.tensor([20 * math.log(1.5)]))


def test_the_value_of_simnpo() -> None:
    """βℓ - γ = log 3: σ is ¾."""
    values = simnpo(beta=2.0, gamma=0.5)
    found = values(torch.tensor([(math.log(3) + 0.5) / 2]), slice(0, 1))
    torch.testing.assert_close(found, torch.tensor([-math.log(0.75)]))


def test_the_forget_side_is_the_mean_over_all_micro_batches() -> None:
    bench = bench_of(forget=[(1, 0, 0), (0, 1, 1), (2, 0, 0)], retain=[(1, 1, 0)])
    (found,) = sides_of(bench).forget()
    wanted = torch.tensor([[-0.5 - 1.0, 0.5], [0.5 + 1.0, -0.5]]) / 3
    torch.testing.assert_close(found, wanted)


class Noisy(torch.nn.Module):
    """Dropout before a model."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Dropout(0.5), inner)

    def forward(self, input: Tensor) -> Tensor:
        return self.inner(input)


@torch.no_grad()
def test_the_teacher_is_frozen_and_in_evaluation_mode() -> None:
    bench = bench_of(forget=[(1, 0, 0)], retain=[(1, 1, 0)])
    model = Noisy(bench.model.model).train()
    teacher = Teacher(model, bench.family)
    model.eval()
    (batch,) = bench.batch(list(bench.retain))
    assert float(teacher.divergence(model, batch)) == 0.0
    weight_of(bench).copy_(MOVED)
    wanted = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(teacher.divergence(model, batch)) == pytest.approx(wanted)


def test_the_names_are_the_files() -> None:
    assert set(PEERS) == {
        "fine_tune", "gradient_ascent", "grad_diff", "kl", "scrub", "gru", "pcgrad", "npo", "simnpo", "retrain",
    }  # fmt: skip
    assert all(callable(peer_module(name).build) for name in PEERS)


@pytest.mark.parametrize("name", ["magic", "", "os", "__init__"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UnlearningError) as refused:
        peer_module(name)
    assert refused.value.code == "bad_parameters"


def adapter() -> Bench:
    return bench_of(forget=[(1, 0, 0)], retain=[(1, 1, 0)], is_adapter=True)


def test_an_adapter_cannot_be_retrained() -> None:
    with pytest.raises(UnlearningError, match="full weights") as refused:
        peer_module("retrain").build(sides_of(adapter()))
    assert refused.value.as_failure().retryable is False


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [warm_cosine(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert warm_cosine(0, 1) == 1.0
