"""GRU (gradient rectified unlearning): climb on the forget loss, without the part that works against retaining."""

import torch

from core.hamu.baselines.gradients import Gradients, Products, Result, products, shortened, weighted_sum


def gru(
    retain: Gradients,
    forget: Gradients,
    *,
    tau: float | None = None,
    corrected_sign: bool = False,
    whole_model: Products | None = None,
    eps: float = 1e-12,
) -> Result:
    """-u with u = f - (k / r·r) r where the two conflict and u = f elsewhere; k = r·f.

    Published code projects when k < 0. Since the forget loss is to go up, a step along f harms retaining when k > 0:
    ``corrected_sign`` projects there. tau: longest norm of the result. whole_model: products to use instead of those
    of the given tensors. eps: smallest denominator, for a vanishing retain gradient.
    """
    p = products(retain, forget) if whole_model is None else whole_model
    conflict = p.dot > 0 if corrected_sign else p.dot < 0
    removed = torch.where(conflict, p.dot / p.retain.clamp(min=eps), 0.0)
    return shortened(weighted_sum(retain, forget, removed, -1.0), tau, eps)
