"""Truth ratio: does the model find wrong answers as likely as the right one, said in other words?

Needs, per record, a paraphrase of the right answer and some perturbed (wrong) answers. With P = exp(mean
log-probability of a token), TR = mean P(perturbed) / P(paraphrase): below 1 the model knows which is right, near 1 it
cannot say, far above 1 it was pushed into the opposite.

Two definitions are in use and differ, so each has its name here: the paper takes the arithmetic mean over perturbed
answers, the open-unlearning benchmark the geometric one (the default). Its later form P(right) / (P(right) +
P(wrong)) is ``truth_share``.

Direction: on the forget set the distribution of a model that never saw it (compare with ``forget_quality``), on retain
low. Source: Maini et al., arXiv 2401.06121. Cost: a forward pass per answer.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mean = Literal["arithmetic", "geometric"]


def log_truth_ratio(paraphrase: float, perturbed: NDArray[np.floating], *, mean: Mean = "geometric") -> float:
    """log TR of one record, from mean token log-probabilities of the paraphrase and of each perturbed answer, (k,).

    The logarithm, since a ratio over- and underflows; nan without perturbed answers.
    """
    if not len(perturbed):
        return math.nan
    wrong = perturbed.astype(np.float64)
    if mean == "geometric":
        return float(wrong.mean()) - paraphrase
    return float(np.logaddexp.reduce(wrong)) - math.log(len(wrong)) - paraphrase


def truth_share(log_ratio: float) -> float:
    """P(right) / (P(right) + P(wrong)) of one record from its log TR: 0.5 = cannot say, 1 = sure of the right one."""
    return float(0.5 * (1 - math.tanh(log_ratio / 2)))


def forget_truth_scores(log_ratios: NDArray[np.floating]) -> NDArray[np.float64]:
    """min(TR, 1/TR) of each record, (n,): 1 = cannot say, 0 = sure either way. Their mean is the usual figure."""
    return np.exp(-np.abs(log_ratios.astype(np.float64)))


def utility_truth_scores(log_ratios: NDArray[np.floating]) -> NDArray[np.float64]:
    """max(0, 1 − TR) of each record, (n,): 1 = sure of the right answer, 0 = no better than of a wrong one."""
    return np.maximum(0.0, -np.expm1(np.minimum(log_ratios.astype(np.float64), 1.0)))
