"""A new last layer on the model's features: does it know the forget set better than never-seen records?

A classifier's probe is asked for the class. Text has none, so a language model's probe is asked whether a record was
trained on: it learns that from retained records and half of the holdout, as many of each, and is then shown the forget
set and the other half. The figure is the share of forget records that it calls right (or trained), less the same of the
holdout; 0 is wanted. Cost: a forward pass over at most ``RECORDS`` records of each set.
"""

import numpy as np
from numpy.typing import NDArray

from core.evaluation.estimates import Estimate
from core.evaluation.linear_probe import Probe, probe_gap
from core.unlearning.attacks.features import features, last_layer
from core.unlearning.batches import ExampleSet
from core.unlearning.bench import Bench
from core.unlearning.seed import generator

RECORDS = 2000


def class_probe(bench: Bench, *, seed: int) -> Estimate:
    """Accuracy of the probe on the forget set less that on the bench's holdout; unknown where it cannot be asked."""
    rng = generator(seed, "probe")
    retain, forget, holdout = (_sample(examples, rng) for examples in (bench.retain, bench.forget, bench.holdout))
    if not len(holdout) or last_layer(bench.model) is None:
        return Estimate.unknown()
    probe = Probe.fit(features(bench, retain), _labels(retain), classes=int(bench.model.config.num_labels or 0))
    forget_right, holdout_right = (probe.correct(features(bench, one), _labels(one)) for one in (forget, holdout))
    return probe_gap(forget_right, holdout_right, seed=seed)


def trained_probe(bench: Bench, *, seed: int) -> Estimate:
    """Share of the forget set that the probe calls trained, less that of holdout records it has not seen."""
    rng = generator(seed, "probe")
    order = rng.permutation(len(bench.holdout))[: 2 * RECORDS]
    shown, asked = order[: len(order) // 2], order[len(order) // 2 :]
    if not len(shown) or last_layer(bench.model) is None:
        return Estimate.unknown()
    known = bench.retain.take(rng.permutation(len(bench.retain))[: len(shown)])
    strangers = features(bench, bench.holdout.take(shown))
    inputs = np.concatenate([features(bench, known), strangers])
    is_known = np.arange(len(inputs)) < len(known)
    probe = Probe.fit(inputs, is_known.astype(np.int64), classes=2)
    asked_sets = _sample(bench.forget, rng), bench.holdout.take(asked)
    forget_called, holdout_called = (probe.correct(features(bench, one), np.ones(len(one), int)) for one in asked_sets)
    return probe_gap(forget_called, holdout_called, seed=seed)


def _sample(examples: ExampleSet, rng: np.random.Generator) -> ExampleSet:
    return examples if len(examples) <= RECORDS else examples.take(rng.permutation(len(examples))[:RECORDS])


def _labels(examples: ExampleSet) -> NDArray[np.int64]:
    return np.concatenate([example.labels for example in examples])
