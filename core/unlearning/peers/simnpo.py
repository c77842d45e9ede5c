"""SimNPO (Fan et al. 2024, arXiv 2410.07163): NPO without a reference model, by the length of the response."""

import torch.nn.functional as F
from torch import Tensor

from core.unlearning.peer import Peer, Sides, Values


def build(sides: Sides) -> Peer:
    """Descend along ∇SimNPO + ``retain_weight`` · r."""
    return sides.weighted(simnpo(beta=sides.parameters.simnpo_beta, gamma=sides.parameters.simnpo_gamma))


def simnpo(*, beta: float, gamma: float) -> Values:
    """-(2/β)·log σ(-(β/|y|)·log π - γ) of each record; -log π / |y| is its mean loss."""

    def values(losses: Tensor, _: slice) -> Tensor:
        return -2 / beta * F.logsigmoid(beta * losses - gamma)

    return values
