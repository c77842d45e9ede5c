"""Time in turns, peak memory and arithmetic of the same work done in several ways."""

import os
import platform
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], object]


def in_turns(
    contenders: Mapping[str, Work],
    *,
    rounds: int,
    warm_up: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every contender in every round. Who comes first changes from round to round.

    Other load on the machine then falls on all of them, and what lies in the caches favours none.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            settle(device)
            start = clock()
            contenders[name]()
            settle(device)
            if number >= 0:
                seconds[name].append(clock() - start)
    return seconds


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def paired_ratio(seconds: list[float], base: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the ratio within each round."""
    ratios = [ours / theirs for ours, theirs in zip(seconds, base, strict=True)]
    if len(ratios) < 2:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, middle, high


def peak_bytes(work: Work, device: torch.device) -> int:
    """The most that ``work`` has allocated at one time on top of what was there before."""
    if device.type == "cuda":
        settle(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        settle(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    assert recorded.profiler is not None
    assert recorded.profiler.kineto_results is not None
    changes = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    level = highest = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        level += event.nbytes()
        highest = max(highest, level)
    return highest


def flops(work: Work) -> int:
    """Multiplications and additions of the matrix products and convolutions in ``work``."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return counter.get_total_flops()


def matmul(device: torch.device, dtype: torch.dtype) -> tuple[Work, int]:
    """One large matrix product, the practical limit of the device's arithmetic, and its number of operations."""
    size = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, 2 * size**3


def waits_for_device(work: Work) -> str | None:
    """The first host synchronisation in ``work`` on CUDA and the line that asked for it, None if there is none."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except RuntimeError as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{str(error).splitlines()[0]} ({place.filename}:{place.lineno})"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def hardware(device: torch.device) -> dict[str, str | float | int]:
    """What the numbers were measured on."""
    known: dict[str, str | float | int] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    known |= {"cpu": _processor(), "cores": os.cpu_count() or 0, "load_average": round(os.getloadavg()[0], 2)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        known |= {"gpu": properties.name, "gpu_memory_gib": round(properties.total_memory / 2**30, 1)}
    return known


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextmanager
def processor_clock() -> Iterator[None]:
    """Inside, whatever measures time with ``time.perf_counter`` measures that of this process on its processor."""
    original = time.perf_counter
    time.perf_counter = time.process_time
    try:
        yield
    finally:
        time.perf_counter = original
