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
from core.unlearning.batches import ExampleSet, Family, RetainBatches
from core.unlearning.bench import Bench
from core.unlearning.cache import ExampleCache
from core.unlearning.course import Course, Run
from core.unlearning.failures import Cancelled, UnlearningError
from core.unlearning.guard import Baseline
from core.unlearning.images import image_family
from core.unlearning.job import HAMU_Q, METHODS, Job, Outcome, Progress
from core.unlearning.ledger import Row
from core.unlearning.loop import Unlearning
from core.unlearning.models import LoadedModel, end_token, load_model, load_tokenizer, max_tokens
from core.unlearning.panel import Extras, Panel
from core.unlearning.peer_course import PeerCourse
from core.unlearning.ranks import Ranks
from core.unlearning.records import Dataset
from core.unlearning.reference import check_reference
from core.unlearning.resuming import Checkpoints, Resuming, identity
from core.unlearning.seed import make_deterministic
from core.unlearning.selection import Selection, by_run, read_selection
from core.unlearning.text import TextFamily, Variants
from core.unlearning.variants import RECORDS, read_variants


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
    memory runs out the job is tried once more with half as many records at a time. With ``checkpoints`` the run goes
    on from the newest of this job, reporting the steps behind it once more, and is put away on its own way.

    With ``ranks`` this process does its part of the job; all of them give the same arguments, and only what the first
    one returns and writes counts. When memory runs out on one of them, nothing is tried again here.
    """
    folders = _Folders(model_dir, dataset_files, selection, output_dir)
    line = _Line(report, cancelled, checkpoints, ranks or Ranks())
    try:
        try:
            return _run(job, folders, line)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or line.ranks.size > 1:
                raise
        gc.collect()
        return _run(job.halved(), folders, line)
    except Cancelled:
        return Outcome(stop_reason="cancelled")
    except UnlearningError as error:
        return Outcome(failure=error.as_failure())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return Outcome(failure=_NO_MEMORY.as_failure())


_NO_MEMORY = UnlearningError(
    "out_of_memory",
    "The model does not fit into the memory of the device, even with half as many records at a time: "
    "lower micro_batch_size or use a device with more memory.",
    retryable=True,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the device or the host has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _run(job: Job, folders: _Folders, line: _Line) -> Outcome:
    clock = _Clock()
    with clock.time("load_s"):
        bench, extras, selection = _prepare(job, folders, line)
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
        stop_reason=run.stop_reason,
        hardness=measured | {"branches": hardness.branch_shares([row for row in run.rows if row["accepted"]])},
        metrics=evidence.metrics,
        gates=tuple(gate.as_dict() for gate in evidence.gates),
        verdict=evidence.verdict.verdict,
        verdict_reasons=evidence.verdict.reasons,
        unmet_targets=evidence.unmet_targets,
        records=evidence.records,
    )


def _prepare(job: Job, folders: _Folders, line: _Line) -> tuple[Bench, Extras, Selection]:
    if job.parameters.method not in METHODS:
        known = ", ".join(METHODS)
        raise UnlearningError(
            "bad_parameters", f"The method {job.parameters.method!r} is not known; use one of {known}."
        )
    make_deterministic(job.parameters.seed)
    if job.threads:
        torch.set_num_threads(job.threads)
    parameters = job.parameters
    selection = read_selection(folders.selection, files=len(folders.dataset))
    model = load_model(folders.model, job.task, _device(job.device))
    family = _family(job, model)
    check_reference(model, parameters)
    dataset = Dataset(job.dataset, folders.dataset, family.columns)
    cache = ExampleCache(folders.selection.parent)

    def measured(name: str) -> ExampleSet:
        places = getattr(selection, name)
        sample = places.sample(parameters.max_evaluation_records, seed=parameters.seed)
        return ExampleSet(dataset, family, sample, cache=cache)

    batches = RetainBatches(
        dataset, family, selection.retain, batch_size=parameters.batch_size, seed=parameters.seed, cache=cache
    )
    holdout = measured("holdout")
    bench = Bench(
        model=model,
        family=family,
        forget=ExampleSet(dataset, family, selection.forget, cache=cache),
        retain=measured("retain"),
        holdout=holdout,
        retain_batches=batches,
        micro_batch_size=parameters.micro_batch_size,
        cancelled=line.cancelled,
        ranks=line.ranks,
    )
    variants = _variants(job, folders, family, selection)
    earlier = {run: ExampleSet(dataset, family, places, cache=cache) for run, places in by_run(selection).items()}
    return bench, Extras(holdout, selection.forget_ids, variants, earlier), selection


def _variants(job: Job, folders: _Folders, family: Family, selection: Selection) -> dict[str, list[Variants]]:
    """Other answers to the records of each set, where the dataset has them."""
    if not isinstance(family, TextFamily) or not family.variant_columns or job.parameters.panel != "full":
        return {}
    dataset = Dataset(job.dataset, folders.dataset, [*family.columns, *family.variant_columns])
    samples = {
        name: getattr(selection, name).sample(RECORDS, seed=job.parameters.seed)
        for name in ("forget", "retain", "holdout")
    }
    return {name: read_variants(dataset, family, places) for name, places in samples.items() if len(places)}


def _family(job: Job, model: LoadedModel) -> Family:
    if job.task == "image-classification":
        return image_family(
            model.folder, model.config, columns=job.dataset.columns, image_shape=job.dataset.image_shape
        )
    tokenizer = load_tokenizer(model)
    return TextFamily(
        tokenizer,
        columns=job.dataset.columns,
        prompt_template=job.dataset.prompt_template,
        end_token=end_token(model, tokenizer),
        max_tokens=max_tokens(model.config),
    )


def _device(name: str) -> torch.device:
    """Raises ``UnlearningError`` for a device this machine does not have; that may be another machine's luck."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UnlearningError("bad_device", f"{name!r} is not the name of a device.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UnlearningError("no_device", f"This worker has no device {name!r}.", retryable=True)
    return device


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
