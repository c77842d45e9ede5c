"""The evidence of one run: looks before and after, controls, attacks, and what the gates make of them.

A panel is opened on the original model and closed on the new one. Everything is deterministic by the run's seed, and
the weights end as the run left them, bit for bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import weighted_bootstrap
from core.evaluation.displacement import displacement, displacement_by_layer
from core.evaluation.estimates import Estimate
from core.evaluation.gates import Gate, judge
from core.evaluation.histogram import histograms
from core.evaluation.limits import Limits
from core.evaluation.membership import membership_auc
from core.evaluation.statistics import mean
from core.evaluation.summary import summarise
from core.evaluation.verdict import Verdict, verdict
from core.unlearning.attacks.battery import attack, probe_of
from core.unlearning.batches import ExampleSet
from core.unlearning.bench import Bench, Weights
from core.unlearning.controls import draw_placebo, no_op_block, placebo_block
from core.unlearning.course import Run
from core.unlearning.dials import ACCEPT_SHARE
from core.unlearning.divergence import RECORDS, Kept, divergence, keep
from core.unlearning.earlier import earlier_deletions
from core.unlearning.guard import Baseline
from core.unlearning.hardness import finite_only
from core.unlearning.job import HAMU_Q, Job
from core.unlearning.ledger import total
from core.unlearning.measuring import Facts, Measurements, matched, measure, targets
from core.unlearning.observing import Look, look, match
from core.unlearning.record_table import Row, record_rows, worst
from core.unlearning.reference import compare, retrained
from core.unlearning.seed import draw, generator
from core.unlearning.speaking import memory, other_answers, own_words
from core.unlearning.targets import standings, unmet
from core.unlearning.text import Variants

_SETS = ("forget", "retain", "holdout")


@dataclass(frozen=True, slots=True)
class Extras:
    """What the panel looks at besides the bench's sets."""

    record_ids: tuple[str, ...]
    """Of the forget set, in its order."""
    variants: Mapping[str, list[Variants]] = field(default_factory=dict)
    """Other answers to the records of a set, by its name."""
    earlier: Mapping[str, ExampleSet] = field(default_factory=dict)
    """Records that runs before this one forgot, by the run's id."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run has to show: the contract's ``metrics``, its gates, their verdict, and a row a forget record."""

    metrics: dict[str, Any]
    gates: tuple[Gate, ...]
    verdict: Verdict
    records: tuple[Row, ...]
    unmet_targets: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _Memory:
    """What is kept of the original model for the end of the run."""

    weights: Weights
    answers: Kept
    spoken: dict[str, dict[str, float]]
    probe: Estimate


class Panel:
    """One run's panel. Its ``bench`` has the matched holdout: the run aims at what it will be judged by."""

    def __init__(self, job: Job, bench: Bench, extras: Extras) -> None:
        """Look at the original model. Raises ``Cancelled``."""
        self._job, self._extras = job, extras
        self._seed = job.parameters.seed
        self._before = look(bench)
        self.matching = match(self._before, seed=self._seed)
        # Without enough matches the whole holdout is the best there is to aim at; the verdict will be inconclusive.
        chosen = bench.everyone.take(self.matching.holdout) if self.matching.enough else bench.everyone
        self.bench = replace(bench, holdout=chosen)
        self._placebo = draw_placebo(len(bench.retain), len(bench.forget), seed=self._seed)
        some = generator(self._seed, "divergence").permutation(len(bench.retain))[:RECORDS]
        self._retain_sample = bench.retain.take(some)
        self._memory: _Memory | None = None

    @property
    def baseline(self) -> Baseline:
        """The scores before the run, of the bench's sets."""
        return self._before.baseline(self._aim)

    @property
    def _aim(self) -> NDArray[np.integer] | None:
        """Whom the run looks at: the matched holdout if there is enough of it, or all that is held out."""
        return self.matching.holdout if self.matching.enough else None

    def summary(self) -> dict[str, Any]:
        """The ``before`` block as far as an assessment needs it."""
        return self._block(self._before, {}, {})

    def remember(self) -> None:
        """Keep of the original model what ``close`` will compare with. Raises ``Cancelled``."""
        self._memory = _Memory(
            self.bench.copy_weights(),
            keep(self.bench, self._retain_sample),
            self._spoken(),
            self._probe(),
        )

    def close(self, run: Run) -> Evidence:
        """Round the weights to what will be saved, look at them, attack them, and judge. Raises ``Cancelled``.

        ``remember`` must have been called before the run.
        """
        memory = self._memory
        if memory is None:
            raise RuntimeError("The panel remembers nothing of the original model.")
        moved = self._moved(memory.weights)
        after = look(self.bench)
        facts = Facts(self.matching, self._placebo.pool, moved["displacement"], self._owed(run), self._seed)
        no_op = measure(self._before, self._before, replace(facts, displacement=0.0))
        measured = measure(self._before, after, facts)
        more, found = self._more(memory, after, moved["displacement"])
        measured |= more
        gates = judge(measured, no_op, self._limits)
        goals = targets(self._before, after, self.matching)
        rows = record_rows(
            self._before,
            after,
            holdout=after.holdout.scores.losses[self.matching.holdout],
            targets=goals,
            record_ids=self._extras.record_ids,
        )
        metrics = {
            "before": self._block(self._before, no_op, memory.spoken),
            "after": self._block(after, measured, self._spoken()) | moved | _ledger(run),
            "matching": self.matching.as_dict(),
            "controls": {
                "no_op": no_op_block(no_op, self._limits, matched=self.matching.enough),
                "placebo": placebo_block(self._before, after, self._placebo, facts, self._limits),
            },
            "worst_records": worst(rows),
            **found,
        }
        reached = standings(self.baseline, after.baseline(self._aim), self._job.parameters)
        missed = unmet(reached, run.stop_reason, run.rows)
        return Evidence(metrics, gates, verdict(gates, matched=self.matching.enough), rows, missed)

    def _more(self, memory: _Memory, after: Look, distance: float) -> tuple[Measurements, dict[str, Any]]:
        """Measurements that need the model once more, and their blocks of ``metrics``."""
        measured: Measurements = {}
        blocks: dict[str, Any] = {"attacks": None, "reference": None, "earlier": {}}
        kl = divergence(self.bench, self._retain_sample, memory.answers)
        blocks["kl_to_original"] = weighted_bootstrap(mean, kl, seed=self._seed).as_dict() | {"records": len(kl)}
        if self._full:
            attacked = attack(
                self.bench, self.baseline.forget, after.forget.scores, displacement=distance, seed=self._seed
            )
            measured |= attacked.measurements
            blocks["attacks"] = finite_only(attacked.block)
            blocks["attacks"]["linear_probe"]["gap_before"] = memory.probe.as_dict()
        if self._extras.earlier:
            together, blocks["earlier"] = earlier_deletions(
                self.bench, self._extras.earlier, self._before, after, seed=self._seed
            )
            measured["earlier_deletions"] = together
        if self._job.parameters.reference == "retrain":
            twin = retrained(self.bench, self.baseline, self._job.parameters)
            blocks["reference"] = compare(after, look(twin), self.matching)
        return measured, blocks

    def _moved(self, start: Weights) -> dict[str, Any]:
        weights = self.bench.model.trainable
        in_float32 = displacement(start, weights.items())["displacement"]
        self.bench.model.round_to_stored(draw(self._seed, "rounding"))
        return displacement(start, weights.items()) | {
            "displacement_before_rounding": in_float32,
            "displacement_by_layer": displacement_by_layer(start, weights.items()),
        }

    def _block(self, seen: Look, measured: Measurements, spoken: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
        """One ``before`` or ``after`` of the contract's ``metrics``."""
        text = self._job.task == "causal-lm"
        block: dict[str, Any] = summarise(seen.forget.scores, seen.retain.scores, seen.holdout.scores, perplexity=text)
        forget, holdout = (one.scores.losses for one in matched(seen, self.matching))
        if len(holdout):
            block["membership_auc"] = membership_auc(forget, holdout)
        for name in _SETS:
            block[name] |= finite_only({**memory(getattr(seen, name)), **spoken.get(name, {})})
        block["measurements"] = {name: estimate.as_dict() for name, estimate in measured.items()}
        block["scores"] = histograms({"forget": forget, "holdout": holdout})
        return finite_only(block)

    def _spoken(self) -> dict[str, dict[str, float]]:
        """What a language model says by itself, by set; the holdout here is the matched one."""
        if not self._full:
            return {}
        most = self._job.parameters.generated_records
        return {
            name: own_words(self.bench, getattr(self.bench, name), most=most)
            | other_answers(self.bench, self._extras.variants.get(name, []))
            for name in _SETS
        }

    def _probe(self) -> Estimate:
        return probe_of(self.bench, self._seed) if self._full else Estimate.unknown()

    @property
    def _full(self) -> bool:
        return self._job.parameters.panel == "full"

    @property
    def _limits(self) -> Limits:
        budget = self._job.parameters.retain_accuracy_budget
        return Limits.from_json(self._job.limits).with_default("retain_accuracy_drop", at_most=budget)

    def _owed(self, run: Run) -> float | None:
        if self._job.parameters.method != HAMU_Q:
            return None
        return 0.0 if run.rolled_back else ACCEPT_SHARE * total(run.rows, "promised_forget_gain")


def _ledger(run: Run) -> dict[str, Any]:
    return {
        "promised_forget_gain": total(run.rows, "promised_forget_gain"),
        "realised_forget_gain": total(run.rows, "realised_forget_gain"),
        "repair_steps": sum(row["kind"] == "repair" for row in run.rows),
        "rolled_back": run.rolled_back,
    }
