"""From a job's folders to a loaded model and its sets, before anything is measured."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from core.unlearning.batches import ExampleSet, Family, RetainBatches
from core.unlearning.bench import Bench
from core.unlearning.cache import ExampleCache
from core.unlearning.failures import UnlearningError
from core.unlearning.footprint import check_footprint
from core.unlearning.images import image_family
from core.unlearning.job import METHODS, Job
from core.unlearning.models import LoadedModel, end_token, load_model, load_tokenizer, max_tokens
from core.unlearning.panel import Extras
from core.unlearning.ranks import Ranks
from core.unlearning.records import Dataset
from core.unlearning.reference import check_reference
from core.unlearning.seed import make_deterministic
from core.unlearning.selection import Selection, by_run, read_selection
from core.unlearning.text import TextFamily, Variants
from core.unlearning.variants import RECORDS, read_variants


def prepare(
    job: Job,
    *,
    model_dir: Path,
    dataset_files: Sequence[Path],
    selection: Path,
    cancelled: Callable[[], bool],
    ranks: Ranks | None = None,
) -> tuple[Bench, Extras, Selection]:
    """The loaded model with its sets, what the panel looks at besides, and the selection they come from.

    ``bench.holdout`` is all that is held out, or its sample. Encoded records may be cached beside ``selection``. Seeds
    every generator. Raises ``UnlearningError`` for a job that cannot be done.
    """
    if job.parameters.method not in METHODS:
        known = ", ".join(METHODS)
        raise UnlearningError(
            "bad_parameters", f"The method {job.parameters.method!r} is not known; use one of {known}."
        )
    make_deterministic(job.parameters.seed)
    if job.threads:
        torch.set_num_threads(job.threads)
    parameters = job.parameters
    places = read_selection(selection, files=len(dataset_files))
    device = _device(job.device)
    check_footprint(model_dir, device, job.memory_bytes)
    model = load_model(model_dir, job.task, device)
    family = _family(job, model)
    check_reference(model, parameters)
    dataset = Dataset(job.dataset, dataset_files, family.columns)
    cache = ExampleCache(selection.parent)

    def measured(name: str) -> ExampleSet:
        sample = getattr(places, name).sample(parameters.max_evaluation_records, seed=parameters.seed)
        return ExampleSet(dataset, family, sample, cache=cache)

    size = parameters.minibatch(len(places.retain))
    batches = RetainBatches(dataset, family, places.retain, batch_size=size, seed=parameters.seed, cache=cache)
    holdout = measured("holdout")
    bench = Bench(
        model=model,
        family=family,
        forget=ExampleSet(dataset, family, places.forget, cache=cache),
        retain=measured("retain"),
        everyone=holdout,
        holdout=holdout,
        retain_batches=batches,
        micro_batch_size=parameters.micro_batch_size,
        cancelled=cancelled,
        ranks=ranks or Ranks(),
    )
    variants = _variants(job, dataset_files, family, places)
    earlier = {run: ExampleSet(dataset, family, forgotten, cache=cache) for run, forgotten in by_run(places).items()}
    return bench, Extras(places.forget_ids, variants, earlier), places


def _variants(job: Job, files: Sequence[Path], family: Family, selection: Selection) -> dict[str, list[Variants]]:
    """Other answers to the records of each set, where the dataset has them."""
    if not isinstance(family, TextFamily) or not family.variant_columns or job.parameters.panel != "full":
        return {}
    dataset = Dataset(job.dataset, files, [*family.columns, *family.variant_columns])
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
