"""SCRUB (Kurmanji et al. 2023, arXiv 2302.09880): near the original on retain data, away from it on forget data.

The published method alternates epochs of the two aims; here, as in the comparison of arXiv 2606.02119, each step has
both.
"""

from core.hamu.baselines import scrub
from core.unlearning.batches import Batch
from core.unlearning.peer import Peer, Result, Sides


def build(sides: Sides) -> Peer:
    """Descend along (α r_kl + γ r - f_kl) / 2 with α = ``scrub_alpha`` and γ = ``scrub_gamma``."""
    sides.remember_original()
    parameters = sides.parameters

    def gradients(batch: list[Batch]) -> Result:
        return scrub(
            sides.retain(batch),
            sides.retain_kl(batch),
            sides.forget_kl(),
            alpha=parameters.scrub_alpha,
            gamma=parameters.scrub_gamma,
        )

    return Peer(gradients)
