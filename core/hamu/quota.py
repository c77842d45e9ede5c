"""How the model's quota Q is shared among blocks: Q_i = Q · share_i with shares that sum to 1.

A block that cannot gain anything (no constraint gradient, or no radius) is left out of every rule.
Source: arXiv 2606.02119, layer-wise rule; uniform and softmax are the authors' alternatives.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from core.hamu.solve import Problem

QuotaRule = Callable[[Problem], Tensor]
"""(L,) shares from a problem whose quota is not set yet."""


def gradient_norm(problem: Problem) -> Tensor:
    """share_i ∝ ‖r_i‖‖f_i‖, the paper's rule. With R_i ∝ ‖a_i‖ every block is equally far from infeasible."""
    return _normalised(problem.product)


def uniform(problem: Problem) -> Tensor:
    """The same share for every block that can gain. Blocks with small gradients become infeasible first."""
    return _normalised((problem.reach > 0).to(problem.reach))


def softmax(problem: Problem) -> Tensor:
    """share_i ∝ exp(-κ_i): more from the blocks where forgetting is easy. Safe for any size of κ."""
    able = problem.reach > 0
    logits = torch.where(able, -problem.dot, -torch.inf)
    top = torch.where(able.any(), logits.max(), 0.0)
    return _normalised(torch.where(able, (logits - top).exp(), 0.0))


def _normalised(weights: Tensor) -> Tensor:
    total = weights.sum()
    return torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), 0.0)


RULES: dict[str, QuotaRule] = {"gradient_norm": gradient_norm, "uniform": uniform, "softmax": softmax}
