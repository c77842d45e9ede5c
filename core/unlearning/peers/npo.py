"""NPO, negative preference optimisation (Zhang et al. 2024, arXiv 2404.05868)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from core.unlearning.peer import Peer, Sides, Values


def build(sides: Sides) -> Peer:
    """Descend along ∇NPO + ``retain_weight`` · r; the references are the losses measured before the run."""
    before, device = sides.baseline.forget, sides.bench.model.device
    reference = torch.tensor(before.losses, dtype=torch.float32, device=device)
    answers = torch.tensor(before.counted, dtype=torch.float32, device=device)
    return sides.weighted(npo(reference, answers, beta=sides.parameters.npo_beta))


def npo(reference: Tensor, answers: Tensor, *, beta: float) -> Values:
    """-(2/β)·log σ(-β·log(π/π₀)) of each record, π the probability of its whole response and π₀ the original's.

    reference: (n,) mean loss ℓ₀ in nats of each record under the original model. answers: (n,) how many it has, a
    response's tokens. With the mean loss ℓ now, log(π/π₀) = answers · (ℓ₀ - ℓ).
    """

    def values(losses: Tensor, where: slice) -> Tensor:
        log_ratio = answers[where] * (reference[where] - losses)
        return -2 / beta * F.logsigmoid(-beta * log_ratio)

    return values
