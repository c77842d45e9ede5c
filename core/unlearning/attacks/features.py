"""What the model's last layer sees of a record: the input of its classifier, or of its language head."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.unlearning.batches import ExampleSet
from core.unlearning.bench import Bench
from core.unlearning.models import LoadedModel


def features(bench: Bench, examples: ExampleSet) -> NDArray[np.float32]:
    """One row a record, (n, width): images as they reach the classifier, text as the mean over its scored answers.

    Raises ``ValueError`` for a model without a ``last_layer``, and ``Cancelled`` between forward passes.
    """
    head = last_layer(bench.model)
    if head is None:
        raise ValueError("The model has no last layer that could be watched.")
    rows: list[Tensor] = []
    with torch.no_grad(), _watched(head) as seen:
        for batch in bench.batches(examples):
            scored = bench.family.answers(bench.model.model, batch).scored
            rows.append(_pooled(seen.pop(), scored).float().cpu())
    return torch.cat(rows).numpy() if rows else np.empty((0, 0), dtype=np.float32)


def last_layer(model: LoadedModel) -> nn.Module | None:
    """The language head, or the last linear layer with an output for each class; None if there is neither."""
    finder = getattr(model.model, "get_output_embeddings", None)
    if finder is not None and (head := finder()) is not None:
        return cast("nn.Module", head)
    linear = [module for module in model.model.modules() if isinstance(module, nn.Linear)]
    ends = [module for module in linear if module.out_features == model.config.num_labels]
    return ends[-1] if ends else None


@contextmanager
def _watched(head: nn.Module) -> Iterator[list[Tensor]]:
    """The inputs of ``head``, one a forward pass, as they come."""
    seen: list[Tensor] = []

    def note(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append(next(iter((*arguments, *named.values()))).detach())

    handle = head.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def _pooled(hidden: Tensor, scored: Tensor) -> Tensor:
    """(n, width) from (n, width) or, of text, (n, tokens, width): the place before a token is the one that says it."""
    if hidden.ndim == 2:
        return hidden
    here = scored[..., None].to(hidden.dtype)
    return (hidden[:, : scored.shape[1]] * here).sum(dim=1) / here.sum(dim=1)
