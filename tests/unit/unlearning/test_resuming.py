"""Interrupted runs end with the weights of runs that nobody interrupted, bit for bit."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from core.unlearning import resuming
from core.unlearning.batches import RetainBatches
from core.unlearning.bench import Bench
from core.unlearning.checkpoint import State
from core.unlearning.course import Course
from core.unlearning.images import image_family
from core.unlearning.job import DatasetSource, Parameters, Progress, StoredFile
from core.unlearning.loop import Unlearning
from core.unlearning.peer_course import PeerCourse
from core.unlearning.records import Dataset
from core.unlearning.resuming import identity
from core.unlearning.run import run_job
from core.unlearning.seed import make_deterministic, random_state, restore_random_state
from core.unlearning.selection import Places, Selection
from tests.builders.models import Built, digits_classifier
from tests.unit.unlearning.jobs import Told, job_of, sets_of
from tests.unit.unlearning.peers.tiny import Point, baseline_of, bench_of, weight_of
from tests.unit.unlearning.places import places, write_selection

WRITER = "writer-03"


class Killed(Exception):
    """The process ends here."""


@dataclass
class Folder:
    """Checkpoints as files, one after every ``every`` steps."""

    path: Path
    every: int = 1
    kept: list[int] = field(default_factory=list)
    identities: set[str] = field(default_factory=set)

    def found(self, identity: str) -> Iterator[State]:
        for path in sorted(self.path.glob(f"{identity}-*"), reverse=True):
            yield State.load(path)

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def keep(self, identity: str, step: int, state: State) -> None:
        state.save(self.path / f"{identity}-{step:04d}")
        self.kept.append(step)
        self.identities.add(identity)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return digits_classifier(tmp_path_factory.mktemp("digits"), 0, epochs=4)


def go(built: Built, folder: Path, checkpoints: Folder | None, *, killed_at: int = 0, **parameters: Any) -> Told:
    """One attempt; ``killed_at``: it dies when it reports that step."""
    folder.mkdir(exist_ok=True)
    told = Told()

    def report(progress: Progress) -> None:
        told.lines.append(progress)
        if killed_at and progress.row is not None and progress.step == killed_at:
            raise Killed

    outcome = run_job(
        job_of(built, **parameters),
        model_dir=built.model,
        dataset_files=[built.records],
        selection=write_selection(folder / "selection.parquet", sets_of(built, WRITER)),
        output_dir=folder / "out",
        report=report,
        cancelled=lambda: False,
        checkpoints=checkpoints,
    )
    assert outcome.failure is None
    return told


def same_weights(first: Path, second: Path) -> bool:
    one, other = (load_file(folder / "out" / "model.safetensors") for folder in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_seconds(told: Told) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in told.rows]


SMALL = {"batch_size": 16, "micro_batch_size": 64, "max_evaluation_records": 60, "retain_accuracy_budget": 1.0}
METHODS: dict[str, dict[str, Any]] = {
    "hamu-q": {"max_steps": 14, "forget_target_ratio": 100.0},
    "scrub": {"max_steps": 14, "learning_rate": 1e-4, "forget_target_ratio": 100.0},
    "retrain": {"epochs": 1, "batch_size": 100},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_again_and_again_ends_with_the_weights_of_an_unbroken_one(
    digits: Built, tmp_path: Path, method: str
) -> None:
    """Killed right after a checkpoint, and then between two, with a look at the whole sets behind it."""
    settings = {"method": method, **SMALL, **METHODS[method]}
    unbroken = go(digits, tmp_path / "unbroken", None, **settings)
    checkpoints = Folder(tmp_path, every=3)
    behind = []
    for killed_at in (4, 11):
        with pytest.raises(Killed):
            go(digits, tmp_path / "broken", checkpoints, killed_at=killed_at, **settings)
        behind.append(max(checkpoints.kept))
    assert behind == [3, 9]
    resumed = go(digits, tmp_path / "broken", checkpoints, **settings)
    assert same_weights(tmp_path / "unbroken", tmp_path / "broken")
    assert without_seconds(resumed) == without_seconds(unbroken)
    assert [line.resumed_step for line in resumed.lines if line.resumed_step] == [9]
    assert len(checkpoints.identities) == 1


FORGET: list[Point] = [(2, 0.5, 0), (-1.5, -0.5, 1)]
RETAIN: list[Point] = [(0.1, 1, 0), (0.2, 1, 0), (-0.1, -1, 1), (0.1, -1, 1)]


def course_of(method: str, **parameters: Any) -> tuple[Course, Bench]:
    bench = bench_of(forget=FORGET, retain=RETAIN, holdout=[(0.1, 0, 0), (0, 0.1, 1)])
    weight_of(bench).copy_(torch.tensor([[0.8, 0.8], [-0.8, -0.8]]))
    settings = {"learning_rate": 0.01, "max_steps": 24, "retain_accuracy_budget": 0.0, **parameters}
    kind = Unlearning if method == "hamu-q" else PeerCourse
    return kind(bench, baseline_of(bench), Parameters(method=method, **settings)), bench


@pytest.mark.parametrize("method", ["hamu-q", "gradient_ascent", "kl", "npo", "grad_diff"])
def test_it_does_not_matter_after_which_step_a_run_was_put_away(method: str, tmp_path: Path) -> None:
    """Through repairs, looks and the steps over the budget; each state goes through a file."""
    unbroken, bench = course_of(method)
    states: list[Path] = []

    def put_away() -> None:
        states.append(tmp_path / f"{len(states)}")
        unbroken.state().save(states[-1])

    whole = unbroken.run(lambda _: None, checkpoint=put_away)
    assert len(states) >= 11
    for path in states:
        other, again = course_of(method)
        other.restore(State.load(path))
        rest = other.run(lambda _: None)
        assert torch.equal(weight_of(again), weight_of(bench))
        assert (rest.stop_reason, rest.rolled_back, len(rest.rows)) == (
            whole.stop_reason,
            whole.rolled_back,
            len(whole.rows),
        )


@pytest.mark.parametrize("method", ["hamu-q", "grad_diff"])
def test_a_run_that_is_told_to_stop_can_be_put_away_as_it_stands(method: str, tmp_path: Path) -> None:
    whole, bench = course_of(method)
    whole.run(lambda _: None)
    stopped, its_bench = course_of(method)
    its_bench.cancelled = lambda: len(stopped.rows) >= 3
    put_away_at: list[int] = []

    def put_away() -> None:
        put_away_at.append(len(stopped.rows))
        stopped.state().save(tmp_path / "state")

    assert stopped.run(lambda _: None, checkpoint=put_away).stop_reason == "cancelled"
    assert put_away_at == [1, 2, 3, 3]
    resumed, again = course_of(method)
    resumed.restore(State.load(tmp_path / "state"))
    resumed.run(lambda _: None)
    assert torch.equal(weight_of(again), weight_of(bench))


def test_the_minibatches_go_on_where_they_were(digits: Built) -> None:
    config = AutoConfig.from_pretrained(digits.model)
    family = image_family(digits.model, config, columns=digits.columns, image_shape=digits.image_shape)
    source = DatasetSource("parquet", digits.columns, (), "", digits.image_shape)
    dataset = Dataset(source, [digits.records], family.columns)
    batches = RetainBatches(dataset, family, places(*range(50)), batch_size=4, seed=3)

    def labels(from_step: int) -> list[list[int]]:
        return [[int(example.labels[0]) for example in batch] for batch in islice(batches.after(from_step), 20)]

    first = [[int(example.labels[0]) for example in batch] for batch in islice(batches, 60)]
    for step in (0, 1, 15, 16, 17, 40):  # a window has 16 batches, an epoch 12 and a half
        assert labels(step) == first[step : step + 20]


def test_every_generator_goes_on_where_it_was() -> None:
    def draw() -> tuple[float, float, float, float]:
        return random.gauss(0, 1), float(np.random.standard_normal()), float(torch.randn(())), random.random()

    make_deterministic(3)
    draw()  # both Gaussian generators now hold the second half of a pair
    state = random_state(torch.device("cpu"))
    expected = [draw() for _ in range(3)]
    make_deterministic(4)
    restore_random_state(state, torch.device("cpu"))
    assert [draw() for _ in range(3)] == expected


SELECTION = Selection(places(1, 2), places(3, 4, 5), places(6))


def test_a_checkpoint_belongs_to_one_job(digits: Built, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Attempt and run may differ; base version, sets, parameters, torch and code may not."""
    job = job_of(digits)
    mine = identity(job, SELECTION)
    assert identity(replace(job, attempt=2, run_id="run_2", publish_uri="s3://other/"), SELECTION) == mine
    assert identity(job.halved(), SELECTION) == mine  # memory may run out
    others = [
        identity(replace(job, model_files=(StoredFile("model.safetensors", "s3://m", 1, "ab"),)), SELECTION),
        identity(replace(job, dataset=replace(job.dataset, fingerprint="other")), SELECTION),
        identity(replace(job, parameters=replace(job.parameters, seed=1)), SELECTION),
        identity(job, replace(SELECTION, forget=places(1), retain=places(2, 3, 4, 5))),
        identity(job, replace(SELECTION, forget=Places(np.array([1, 1]), np.array([1, 2])))),
    ]
    for package in ("evaluation", "hamu", "unlearning"):
        (tmp_path / package).mkdir()
    monkeypatch.setattr(resuming, "_CODE", tmp_path)
    others.append(identity(job, SELECTION))
    (tmp_path / "hamu" / "step.py").write_text("x = 1")
    others.append(identity(job, SELECTION))
    assert len({mine, *others}) == 8


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ValueError, match="no file of a checkpoint"):
        State.load(tmp_path / "state")
