"""Does it pay to let deletion requests wait for each other? A year of arrivals on a simulated clock.

    OMP_NUM_THREADS=1 python -m benchmarks.batching measure            # what runs of 1, 2, 4, 8 people cost
    python -m benchmarks.batching simulate --fixed 3.2 --person 0.4    # the year, with a cost model from that

Arrivals are a Poisson process whose rate follows the hour and the weekday. What is taken when is decided by the
service's own ``core.runs.batching.decide``, every request is due by the GDPR's month, and one run at a time works on
the model. A run costs ``fixed + person · people`` seconds of the device.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from core.deletions.commands import Waiter
from core.deletions.deadlines import after
from core.policies.body import Policy
from core.policies.regulations import GDPR
from core.runs.batching import Rules, Take, decide

START: Final = datetime(2027, 1, 1, tzinfo=UTC)
END: Final = START + timedelta(days=365)
DAY: Final = 86_400.0
WEEKEND: Final = 0.3
NIGHT: Final = 0.2
"""Rates on Saturday and Sunday, and from 20 to 8 o'clock, as shares of a working hour's."""

POLICIES: Final = {
    "at once": Policy(),
    "window 1 day": Policy(batch_window_s=DAY),
    "window 7 days": Policy(batch_window_s=7 * DAY),
    "window 7 days, size 10": Policy(batch_window_s=7 * DAY, batch_size=10),
    "floor 5": Policy(min_subjects=5),
    "floor 5, window 7 days": Policy(min_subjects=5, batch_window_s=7 * DAY),
    "window 23 days": Policy(batch_window_s=23 * DAY),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a run: ``fixed`` whatever it forgets, and ``person`` for each person. ``lasts`` replaces them as the
    time until it has ended, for runs that wait for a device or are tried again."""

    fixed: float
    person: float
    lasts: timedelta | None = None

    def of(self, people: int) -> float:
        return self.fixed + self.person * people

    def duration(self, people: int) -> timedelta:
        return self.lasts or timedelta(seconds=self.of(people))


@dataclass(slots=True)
class Year:
    """What happened: requests, runs, device seconds, waits, deadlines missed, runs below the privacy floor."""

    requests: int = 0
    runs: int = 0
    seconds: float = 0
    alone_seconds: float = 0
    waits: list[timedelta] = field(default_factory=list[timedelta])
    missed: int = 0
    below_floor: int = 0


def arrivals(rate: float, rng: random.Random) -> Iterator[datetime]:
    """Moments of the year at ``rate`` a day on average, by thinning of a steady process."""
    mean = (5 + 2 * WEEKEND) / 7 * (12 + 12 * NIGHT) / 24
    peak = rate / mean / DAY
    at = START
    while (at := at + timedelta(seconds=rng.expovariate(peak))) < END:
        if rng.random() < (WEEKEND if at.weekday() >= 5 else 1) * (1 if 8 <= at.hour < 20 else NIGHT):
            yield at


def simulate(asked: Sequence[datetime], policy: Policy, cost: Cost) -> Year:
    """Carry out the requests as they come, each of another person; what is left at the year's end is carried out."""
    rules, year, now = Rules.of(policy), Year(), START
    waiting: list[Waiter] = []
    coming = [Waiter(at, after(at, GDPR.term), frozenset({str(number)})) for number, at in enumerate(asked)]
    coming.reverse()
    while waiting or coming:
        if not waiting:
            now = max(now, coming[-1].since)
        while coming and coming[-1].since <= now:
            waiting.append(coming.pop())
        decision = decide(waiting, rules, now)
        if isinstance(decision, Take):
            now += cost.duration(len(waiting))
            _note(year, waiting, rules, cost, now)
            waiting = []
        else:
            now = min(decision.until, coming[-1].since) if coming else decision.until
    return year


def _note(year: Year, taken: Sequence[Waiter], rules: Rules, cost: Cost, done: datetime) -> None:
    year.requests += len(taken)
    year.runs += 1
    year.seconds += cost.of(len(taken))
    year.alone_seconds += cost.of(1) * len(taken)
    year.waits += [done - one.since for one in taken]
    year.missed += sum(one.due_at is not None and done > one.due_at for one in taken)
    year.below_floor += len(taken) < rules.floor


def fitted(people: Sequence[int], seconds: Sequence[float]) -> Cost:
    """The cost model through the measurements, by least squares."""
    slope, intercept = statistics.linear_regression(people, seconds)
    return Cost(intercept, slope)


def measure(model: str, people: Sequence[int], seeds: Sequence[int], by: str) -> None:
    """Processor seconds of whole runs (one CPU thread, default policy) that forget so many people or records."""
    from benchmarks.memorised import RECIPES  # the simulation does without torch
    from benchmarks.reaching_target import people_of, run_for

    counts, seconds = list[int](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            home = Path(folder) / f"{seed}"
            home.mkdir()
            built = RECIPES[model].build(home, seed)
            for count in people:
                begun = time.process_time()
                asked = people_of(built, seed, count, by)
                outcome = run_for(built, asked, Path(folder) / f"run-{seed}-{count}", lambda _: None, by=by)
                counts.append(count)
                seconds.append(time.process_time() - begun)
                print(f"seed {seed}  people {count:2}  {seconds[-1]:6.2f} s  {outcome.stop_reason}", flush=True)
    cost = fitted(counts, seconds)
    print(f"fixed {cost.fixed:.2f} s, a person {cost.person:.3f} s")


def show(cost: Cost, rates: Sequence[float], seed: int) -> None:
    """A Markdown table, a line for each rate and policy."""
    print("| requests a day | policy | runs | seconds a request | share of one run a request | median, longest wait |"
          " missed | runs below the floor |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for rate in rates:
        asked = list(arrivals(rate, random.Random(seed)))
        for name, policy in POLICIES.items():
            year = simulate(asked, policy, cost)
            days = sorted(wait / timedelta(days=1) for wait in year.waits)
            print(
                f"| {rate:g} | {name} | {year.runs} | {year.seconds / year.requests:.2f} |"
                f" {year.seconds / year.alone_seconds:.2f} | {statistics.median(days):.1f}, {days[-1]:.1f} days |"
                f" {year.missed} of {year.requests} | {year.below_floor} |"
            )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    measuring = parts.add_parser("measure")
    measuring.add_argument("--model", default="digits")
    measuring.add_argument("--people", type=int, nargs="+", default=[1, 2, 4, 8])
    measuring.add_argument("--by", choices=["subject_id", "record_id"], default="subject_id")
    measuring.add_argument("--seeds", type=int, nargs="+", default=[10])
    simulating = parts.add_parser("simulate")
    simulating.add_argument("--fixed", type=float, required=True, help="seconds of a run that forgets nobody")
    simulating.add_argument("--person", type=float, required=True, help="seconds for each person more")
    simulating.add_argument("--rates", type=float, nargs="+", default=[0.1, 1, 10])
    simulating.add_argument("--lasts-days", type=float, help="every run takes so long until it has ended")
    simulating.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.part == "measure":
        measure(given.model, given.people, given.seeds, given.by)
    else:
        lasts = None if given.lasts_days is None else timedelta(days=given.lasts_days)
        show(Cost(given.fixed, given.person, lasts), given.rates, given.seed)


if __name__ == "__main__":
    main()
