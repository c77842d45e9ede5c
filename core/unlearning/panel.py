"""The evidence of one run: looks before and after, controls, attacks, and what the gates make of them.

A panel is opened on the original model and closed on the new one. Everything is deterministic by the run's seed, and
the weights end as the run left them, bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from core.evaluation.bootstrap import weighted_bootstrap
from core.evaluation.displacement import displacement, displacement_by_layer
from core.evaluation.gates import Gate, judge
from core.evaluation.histogram import histograms
from core.evaluation.limits import Limits
from core.evaluation.statistics import mean
from core.evaluation.summary import summarise
from core.evaluation.verdict import Verdict, verdict
from core.unlearning.attacks.battery import attack
from core.unlearning.batches import ExampleSet
from core.unlearning.bench import Bench, Weights
from core.unlearning.controls import Placebo, draw_placebo, no_op_block, placebo_block
from core.unlearning.course import Run
from core.unlearning.dials import ACCEPT_SHARE
from core.unlearning.divergence import RECORDS, Kept, divergence, keep
from core.unlearning.job import HAMU_Q, Job
from core.unlearning.ledger import total
from core.unlearning.measuring import Facts, Measurements, finite, matched, measure, targets
from core.unlearning.observing import Look, look, match
from core.unlearning.records_table import records_table, worst_records
from core.unlearning.reference import compare, retrained
from core.unlearning.speaking import Speech, speak


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run has to show: the contract's ``metrics``, its gates, their verdict, and a row a forget record."""

    metrics: dict[str, Any]
    gates: tuple[Gate, ...]
    verdict: Verdict
    records: tuple[Mapping[str, Any], ...]
