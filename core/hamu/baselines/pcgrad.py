"""PCGrad (arXiv 2001.06782): each of two gradients loses the part that points against the other."""

import torch

from core.hamu.baselines.gradients import Gradients, Products, Result, products, shortened, weighted_sum


def pcgrad(
    retain: Gradients,
    forget: Gradients,
    *,
    tau: float | None = None,
    corrected_sign: bool = False,
    whole_model: Products | None = None,
    eps: float = 1e-12,
) -> Result:
    """Mean of -f + (k / r·r) r and r - (k / f·f) f where the two conflict, else (r - f) / 2; k = r·f.

    Published code projects when k < 0, though r and -f point against each other when k > 0: ``corrected_sign`` projects
    there. The other arguments are as in ``gru``.
    """
    p = products(retain, forget) if whole_model is None else whole_model
    conflict = p.dot > 0 if corrected_sign else p.dot < 0
    from_retain = torch.where(conflict, p.dot / p.retain.clamp(min=eps), 0.0)
    from_forget = torch.where(conflict, p.dot / p.forget.clamp(min=eps), 0.0)
    mean = weighted_sum(retain, forget, (1.0 + from_retain) / 2, -(1.0 + from_forget) / 2)
    return shortened(mean, tau, eps)
