"""What a language model says of each set: memorised text, answers of its own, and how it ranks other answers."""

from collections.abc import Sequence

import numpy as np

from core.evaluation.observations import Observation, TokenAnswers
from core.evaluation.rouge_l import rouge_l
from core.evaluation.truth_ratio import forget_truth_scores, log_truth_ratio, truth_share
from core.unlearning.batches import ExampleSet
from core.unlearning.bench import Bench
from core.unlearning.generation import greedy_answers
from core.unlearning.measuring import extracted, memorised
from core.unlearning.text import TextFamily, Variants
from core.unlearning.variants import variant_losses

Numbers = dict[str, float]


def memory(seen: Observation) -> Numbers:
    """Mean exact memorisation and extraction strength of a set; nothing for classes."""
    if not isinstance(seen.answers, TokenAnswers):
        return {}
    return {
        "exact_memorisation": float(np.mean(memorised(seen))),
        "extraction_strength": float(np.mean(extracted(seen))),
    }


def own_words(bench: Bench, examples: ExampleSet, *, most: int) -> Numbers:
    """ROUGE-L of the model's greedy answers to the first ``most`` records; nothing for classes or no records.

    Over tokens, so an answer of nothing but other tokens scores 0. Raises ``Cancelled``.
    """
    if not isinstance(bench.family, TextFamily) or not most or not len(examples):
        return {}
    answers = greedy_answers(bench, bench.family, examples, most=most)
    scores = [rouge_l(each.said.tolist(), each.expected.tolist()) for each in answers if len(each.expected)]
    if not scores:
        return {}
    return {
        "generated_records": len(scores),
        "rouge_l_recall": float(np.mean([score.recall for score in scores])),
        "rouge_l_f1": float(np.mean([score.f1 for score in scores])),
    }


def other_answers(bench: Bench, variants: Sequence[Variants]) -> Numbers:
    """The truth ratio (geometric mean over wrong answers) of the records that have other answers; nothing without."""
    if not variants:
        return {}
    losses = variant_losses(bench, variants)
    pairs = zip(losses.paraphrase, losses.perturbed, strict=True)
    logs = np.array([log_truth_ratio(-float(right), -wrong) for right, wrong in pairs])
    return {
        "truth_ratio_records": len(logs),
        "truth_ratio": float(forget_truth_scores(logs).mean()),
        "truth_share": float(np.mean([truth_share(float(one)) for one in logs])),
    }
