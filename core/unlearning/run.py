"""One job from model folder to model folder: load, assess, unlearn, evaluate, save.

Everything lies in local folders; fetching before and publishing after are the caller's.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from core.unlearning import hardness
from core.unlearning.bench import Bench
from core.unlearning.course import Course, Run
from core.unlearning.failures import Cancelled, UnlearningError
from core.unlearning.guard import Baseline
from core.unlearning.job import HAMU_Q, Job, Outcome, Progress
from core.unlearning.ledger import Row
from core.unlearning.loop import Unlearning
from core.unlearning.memory import is_out_of_memory
from core.unlearning.panel import Panel
from core.unlearning.peer_course import PeerCourse
from core.unlearning.preparing import prepare
from core.unlearning.ranks import Ranks
from core.unlearning.resuming import Checkpoints, Resuming, identity
from core.unlearning.selection import Selection


@dataclass(frozen=True, slots=True)
class _Folders:
    model: Path
    dataset: Sequence[Path]
    selection: Path
    output: Path


@dataclass(frozen=True, slots=True)
class _Line:
    """Where progress goes, whether to go on, from where, and with whom."""

    report: Callable[[Progress], None]
    cancelled: Callable[[], bool]
    checkpoints: Checkpoints | None
    ranks: Ranks


@dataclass(slots=True)
class _Clock:
    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - started


def run_job(
    job: Job,
    *,
    model_dir: Path,
    dataset_files: Sequence[Path],
    selection: Path,
    output_dir: Path,
    report: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    checkpoints: Checkpoints | None = None,
    ranks: Ranks | None = None,
) -> Outcome:
    """Unlearn (or, with ``mode="assess"``, only measure) and write the new model folder into ``output_dir``.

    dataset_files: local copies of ``job.dataset.files``, in their order. The outcome has no ``staged`` files. Every
    known failure is in the outcome; a cancelled run ends with ``stop_reason="cancelled"`` and writes nothing. When
    memory runs out in a pass over records, that pass is done with fewer at a time; when it runs out elsewhere, the job
    is tried once more with half as many. With ``checkpoints`` the run goes on from the newest of this job, reporting
    the steps behind it once more, and is put away on its own way.

    With ``ranks`` this process does its part of the job; all of them give the same arguments, and only what the first
    one returns and writes counts. When memory runs out on one of them, nothing is tried again here.
    """
    folders = _Folders(model_dir, dataset_files, selection, output_dir)
    line = _Line(report, cancelled, checkpoints, ranks or Ranks())
    try:
        try:
            return _run(job, folders, line)
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_out_of_memory(error) or line.ranks.size > 1:
                raise
        gc.collect()
        return _run(job.halved(), folders, line)
    except Cancelled:
        return Outcome(stop_reason="cancelled")
    except UnlearningError as error:
        return Outcome(failure=error.as_failure())
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        return Outcome(failure=_NO_MEMORY.as_failure())


_NO_MEMORY = UnlearningError(
    "out_of_memory",
    "The model does not fit into the memory of the device, even with half as many records at a time: "
    "lower micro_batch_size or use a device with more memory.",
    retryable=True,
)


def _run(job: Job, folders: _Folders, line: _Line) -> Outcome:
    clock = _Clock()
    with clock.time("load_s"):
        bench, extras, selection = prepare(
            job,
            model_dir=folders.model,
            dataset_files=folders.dataset,
            selection=folders.selection,
            cancelled=line.cancelled,
            ranks=line.ranks,
        )
    outcome = Outcome(
        worker=_worker(bench.model.device, line.ranks),
        timings=clock.timings,
        forget_records=len(selection.forget),
        retain_records=len(selection.retain),
    )
    line.report(Progress(phase="assessing"))
    with clock.time("assess_s"):
        started = time.perf_counter()
        panel = Panel(job, bench, extras)
        scoring_s = time.perf_counter() - started
        measured = hardness.assess(panel.bench, panel.baseline, job.parameters, scoring_s=scoring_s)
    line.report(Progress(phase="assessing", hardness=measured))
    if job.mode == "assess":
        return replace(outcome, hardness=measured, metrics={"before": panel.summary()})
    with clock.time("assess_s"):
        panel.remember()
    with clock.time("unlearn_s"):
        run = _unlearn(job, panel.bench, selection, panel.baseline, line)
    if run.stop_reason == "cancelled":
        raise Cancelled
    if not line.ranks.leads:
        return outcome
    bench.ranks = panel.bench.ranks = Ranks()  # the others are done
    line.report(Progress(phase="evaluating"))
    with clock.time("evaluate_s"):
        evidence = panel.close(run)
        bench.model.save(folders.output)
    return replace(
        outcome,
        worker={**outcome.worker, "micro_batch_size": min(bench.micro_batch_size, panel.bench.micro_batch_size)},
        stop_reason=run.stop_reason,
        hardness=measured | {"branches": hardness.branch_shares([row for row in run.rows if row["accepted"]])},
        metrics=evidence.metrics,
        gates=tuple(gate.as_dict() for gate in evidence.gates),
        verdict=evidence.verdict.verdict,
        verdict_reasons=evidence.verdict.reasons,
        unmet_targets=evidence.unmet_targets,
        records=evidence.records,
    )


def _worker(device: torch.device, ranks: Ranks) -> dict[str, Any]:
    name = f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "cpu"
    return {
        "device": name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **({"processes": ranks.size} if ranks.size > 1 else {}),
    }


def _unlearn(job: Job, bench: Bench, selection: Selection, baseline: Baseline, line: _Line) -> Run:
    course = _course(job, bench, baseline)
    resuming = Resuming(course, line.checkpoints, identity(job, selection)) if line.checkpoints else None
    behind = resuming.resume() if resuming else 0
    if len(set(bench.ranks.gather([behind]))) > 1:
        message = "The processes of the run did not find the same checkpoint in the object store."
        raise UnlearningError("checkpoints_differ", message, retryable=True)
    limit, started = course.max_steps, time.perf_counter()

    def progress(step: int, row: Row | None = None) -> Progress:
        done = step - behind
        left = (time.perf_counter() - started) / done * (limit - step) if done > 0 else None
        return Progress(phase="unlearning", step=step, max_steps=limit, eta_seconds=left, row=row)

    line.report(replace(progress(behind), resumed_step=behind or None))
    for row in course.rows:
        line.report(progress(int(row["step"] or 0), row))
    keep = resuming.keep if resuming else lambda: None
    return course.run(lambda row: line.report(progress(int(row["step"] or 0), row)), checkpoint=keep)


def _course(job: Job, bench: Bench, baseline: Baseline) -> Course:
    kind = Unlearning if job.parameters.method == HAMU_Q else PeerCourse
    return kind(bench, baseline, job.parameters)
