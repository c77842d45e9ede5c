"""Average gap: how far a model's figures are from a retrained one's, on average.

The mean of absolute differences over the figures given: unlearning accuracy (1 − forget accuracy), retain and test
accuracy, and a membership attack's figure. Direction: 0 = as retrained.

Needs a model retrained without the forget set. Source: Fan et al. (SalUn), arXiv 2310.12508. Cost: none beside it.
"""

from collections.abc import Mapping


def average_gap(unlearned: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """From figures in shares of 1 by name, the same names for both (else ``ValueError``); nan if one of them is."""
    if unlearned.keys() != retrained.keys() or not unlearned:
        raise ValueError(f"Both models need the same figures, not {sorted(unlearned)} and {sorted(retrained)}.")
    return sum(abs(unlearned[name] - retrained[name]) for name in unlearned) / len(unlearned)
