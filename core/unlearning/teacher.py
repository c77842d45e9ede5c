"""The model as it was before the run, to stay near to or to leave."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.unlearning.batches import Batch, Family


class Teacher:
    """A frozen copy of a model, in evaluation mode."""

    def __init__(self, model: nn.Module, family: Family) -> None:
        self._family = family
        self._original = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)

    def divergence(self, model: nn.Module, batch: Batch) -> Tensor:
        """KL(original ‖ ``model``) in nats of each record, (n,): the mean over its scored answers; differentiable."""
        with torch.no_grad():
            original = self._family.answers(self._original, batch)
        current = self._family.answers(model, batch)
        kl = F.kl_div(current.log_probabilities, original.log_probabilities, reduction="none", log_target=True).sum(-1)
        return (kl * current.scored).sum(dim=1) / current.scored.sum(dim=1)
