"""What one unlearning job is told and what it answers: the only words worker and child share.

The supervisor writes a job to ``job.json`` in a private work folder and starts the child; the child prints one
JSON object a line on its standard output (``Progress``) and ends by writing ``outcome.json``. No torch here, so the
supervisor can build and read both without loading it.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from core.unlearning.peers import PEERS

JOB_FILE = "job.json"
OUTCOME_FILE = "outcome.json"
PUT_AWAY_FILE = "put-away"
"""While it is there, a child that is told to stop first puts the run away, so that another attempt can go on."""
SELECTION_FILE = "selection.parquet"
"""Columns: ``set`` (forget | retain | holdout | earlier), ``record_id``, ``file`` (index into ``DatasetSource.files``),
``row`` (0-based row in that file), ``run_id``. Sorted by set, file, row. ``earlier``: a sample of records that runs
before this one forgot and that may still be read, to be measured only; their ``run_id`` is the run that forgot them,
null in the other sets."""

KILLED: Final = "killed"
"""Code of the failure of a computing process that was killed: the kernel does so when the host's memory is full."""
NO_ROOM: Final = ("disk_full", "store_full")
"""Codes of failures for want of room: of the worker's disk, of the object store. Not the run's fault."""
HAMU_Q: Final = "hamu-q"
METHODS: Final = (HAMU_Q, *PEERS)
PANELS: Final = ("full", "basic")
REFERENCES: Final = ("none", "retrain")

Set = Literal["forget", "retain", "holdout", "earlier"]
Task = Literal["image-classification", "causal-lm"]
Phase = Literal["preparing", "assessing", "unlearning", "evaluating", "publishing"]
Mode = Literal["unlearn", "assess"]
StopReason = Literal[
    "target_reached",
    "targets_unmet",
    "max_steps",
    "collateral_forgetting_unavoidable",
    "infeasible",
    "retain_budget_exhausted",
    "non_finite",
    "cancelled",
]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One immutable object: ``path`` within its folder, absolute ``uri`` (``s3://…`` or ``file:///…``)."""

    path: str
    uri: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Where records are read from. ``columns`` as registered (``record_id``, ``image``, ``label``, ``prompt`` …)."""

    format: Literal["parquet", "jsonl"]
    columns: Mapping[str, Any]
    files: tuple[StoredFile, ...]
    fingerprint: str
    image_shape: tuple[int, int, int] | None = None
    """Height, width, channels of raw pixel columns."""
    prompt_template: str = "{prompt} "


@dataclass(frozen=True, slots=True)
class Parameters:
    """The dial settings of a run; every default is the default policy."""

    method: str = HAMU_Q
    """One of ``METHODS``."""
    learning_rate: float = 1e-3
    """η of the first step; the trust region changes it from there."""
    quota_ratio: float = 0.5
    """Q as a share of η·S, in (0, 1)."""
    quota: str = "gradient_norm"
    block: str = "tensor"
    stop_rule: str = "sign_aware"
    max_steps: int = 200
    batch_size: int = 0
    """Records of one retain minibatch; 0: as ``minibatch`` chooses."""
    micro_batch_size: int = 64
    """Records of one forward pass when the whole forget set is accumulated."""
    max_grad_norm: float = 1.0
    forget_target_ratio: float = 0.95
    """The run has reached its target when the forget loss is at least this share of the yardstick, the geometric mean
    of the holdout's loss before and now, and the next three hold."""
    retain_accuracy_budget: float = 0.01
    """Largest allowed fall of retain accuracy, a share of 1."""
    holdout_accuracy_budget: float = 0.01
    """Largest allowed fall of the accuracy on all that is held out; one answer is always allowed. 1: not aimed at."""
    membership_auc_tolerance: float = 0.05
    """How far from 0.5 the loss attack's AUC may end; never less than chance allows so few records. 0.5: no target."""
    max_evaluation_records: int = 10_000
    """Retain and holdout sets larger than this are evaluated on a seeded sample of this size."""
    devices: str = "one"
    """``one``, or ``all``: the worker divides the run among all GPUs that it was given."""
    seed: int = 0
    epochs: int = 60
    """Of ``retrain``: how often it sees the retain set. ``max_steps`` does not shorten it."""
    weight_decay: float = 0.0
    """Of the peers' AdamW, whose rate is ``learning_rate``."""
    retain_weight: float = 1.0
    """Of ``npo`` and ``simnpo``: weight of the retain loss beside theirs."""
    npo_beta: float = 0.1
    """β of ``npo``: the larger, the sooner a record that has become less likely stops counting."""
    simnpo_beta: float = 2.5
    """β of ``simnpo``, for the loss of a token."""
    simnpo_gamma: float = 0.0
    """γ of ``simnpo``: nats by which β times the loss should exceed nothing before a record counts by half."""
    scrub_alpha: float = 0.5
    """α of ``scrub``: weight of the divergence from the original model on retain data."""
    scrub_gamma: float = 1.0
    """γ of ``scrub``: weight of the retain loss."""
    panel: str = "full"
    """One of ``PANELS``: ``basic`` leaves out the attacks and what a language model says by itself."""
    generated_records: int = 64
    """So many records of a set are answered by a language model itself, at most; that is slow."""
    reference: str = "none"
    """One of ``REFERENCES``: ``retrain`` also trains a small model anew without the forget set, to compare with."""

    def minibatch(self, retained: int) -> int:
        """Records of one minibatch out of so many: ``batch_size``, or an eighth of them, but 32 to 128.

        Of a small retain set a larger share costs a step as much as an epoch, and does not spare one.
        """
        return self.batch_size or min(128, max(32, math.ceil(retained / 8)))


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """Where a run puts itself away, and how often; 0 is never."""

    uri: str
    """Folder URI of the run, ending in ``/``: its attempts share it."""
    key: str = field(repr=False)
    """32 bytes in hexadecimal that seal what lies there."""
    every_s: float = 60.0
    every_steps: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a child needs: ids, places, and the key of the run's checkpoints.

    No credentials: those come from the child's environment.
    """

    run_id: str
    attempt: int
    mode: Mode
    task: Task
    model_files: tuple[StoredFile, ...]
    dataset: DatasetSource
    parameters: Parameters
    publish_uri: str
    """Folder URI, ending in ``/`` and holding the attempt, under which new weights are uploaded."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` …"""
    threads: int | None = None
    """CPU threads of the run, all of its processes together; None: torch's default."""
    memory_bytes: int | None = None
    """What one process may use of its device's memory; None: all of it."""
    processes: int | None = None
    """Of ``devices="all"``: among how many processes the run is divided; None: one a GPU."""
    limits: Mapping[str, Mapping[str, float | str | None]] = field(default_factory=dict)
    """What the policy overrides of the gates' margins and severities (``core.evaluation.limits``)."""
    checkpoints: Checkpointing | None = None

    def halved(self) -> "Job":
        """The same job with half as many records at a time, for want of memory."""
        smaller = max(1, self.parameters.micro_batch_size // 2)
        return dataclasses.replace(self, parameters=dataclasses.replace(self.parameters, micro_batch_size=smaller))


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of the child's standard output."""

    phase: Phase
    step: int | None = None
    """Completed optimiser steps, 0 before the first."""
    max_steps: int | None = None
    eta_seconds: float | None = None
    row: Mapping[str, float | int | str | bool | None] | None = None
    """The step ledger's row of this step, if this line reports one."""
    hardness: Mapping[str, Any] | None = None
    """The contract's ``hardness`` block once it has been assessed."""
    resumed_step: int | None = None
    """The attempt goes on from a checkpoint after this step. The rows of the steps up to there follow."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a child could not finish. ``retryable``: the same job may succeed later (store away, memory)."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a job: either ``failure`` or measurements, and the staged files if weights were uploaded."""

    stop_reason: StopReason | None = None
    hardness: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    """``{"before": {...}, "after": {...}}`` as in the contract."""
    gates: tuple[Mapping[str, Any], ...] = ()
    verdict: str | None = None
    """One of ``core.evaluation.verdict.VERDICTS``; None when nothing was judged (a failure, an assessment)."""
    verdict_reasons: tuple[str, ...] = ()
    unmet_targets: tuple[Mapping[str, Any], ...] = ()
    """The policy's targets that were missed, each with ``name``, ``value``, ``limit`` and ``reason``."""
    records: tuple[Mapping[str, Any], ...] = ()
    """Of each forget record ``record_id`` and what was measured before and after; at most 10,000 rows."""
    staged: tuple[StoredFile, ...] = ()
    worker: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    forget_records: int = 0
    retain_records: int = 0
    failure: Failure | None = None


def write_json(path: Path, value: Job | Outcome) -> None:
    """Write ``value`` so that a reader sees the whole file or none of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(dataclasses.asdict(value), allow_nan=False))
    partial.replace(path)


def _files(rows: list[dict[str, Any]]) -> tuple[StoredFile, ...]:
    return tuple(StoredFile(**row) for row in rows)


def read_job(path: Path) -> Job:
    """Raises ``OSError``, ``ValueError`` or ``TypeError`` when the file is missing or not a job."""
    raw = json.loads(path.read_text())
    dataset = raw.pop("dataset")
    shape, checkpoints = dataset.pop("image_shape"), raw.pop("checkpoints")
    return Job(
        **{
            **raw,
            "model_files": _files(raw["model_files"]),
            "parameters": Parameters(**raw["parameters"]),
            "checkpoints": Checkpointing(**checkpoints) if checkpoints else None,
            "dataset": DatasetSource(
                **{**dataset, "files": _files(dataset["files"]), "image_shape": tuple(shape) if shape else None}
            ),
        }
    )


def read_outcome(path: Path) -> Outcome:
    """Raises ``OSError``, ``ValueError`` or ``TypeError`` when the file is missing or not an outcome."""
    raw = json.loads(path.read_text())
    failure = raw.pop("failure")
    return Outcome(
        **{
            **raw,
            "gates": tuple(raw["gates"]),
            "verdict_reasons": tuple(raw["verdict_reasons"]),
            "unmet_targets": tuple(raw["unmet_targets"]),
            "records": tuple(raw["records"]),
            "staged": _files(raw["staged"]),
            "failure": Failure(**failure) if failure else None,
        }
    )


def progress_line(progress: Progress) -> str:
    """One line of JSON without the fields that are not set."""
    fields = {key: value for key, value in dataclasses.asdict(progress).items() if value is not None}
    return json.dumps(fields, allow_nan=False)


def parse_progress(line: str) -> Progress | None:
    """None for a line that is no progress report (a library's stray print)."""
    try:
        raw = json.loads(line)
        return Progress(**raw) if isinstance(raw, dict) else None
    except (ValueError, TypeError):
        return None
