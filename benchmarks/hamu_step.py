"""What a HAMU step costs beside the two passes that any such step needs.

    python -m benchmarks.hamu_step [--case NAME …] [--device cpu|cuda …] [--steps N] [--warm-up N] [--threads N]
                                   [--clock wall|process] [--batch CASE=N …] [--other MODULE:CALLABLE]
                                   [--peak-tflops X] [--json]

On one model and the same two batches, in turns:

    floor   forward and backward for the retain and for the forget batch, then an SGD step
    step    ``HAMU.step``
    own     ``HAMU.step`` with gradients that are already there: what it does besides the passes
    other   another implementation, given as ``--other module:callable``

The callable is called once for each case as ``build(weights, lr)`` with the list of trainable weights, and returns a
function ``step(retain_loss, forget_loss)`` that makes one update in place. Both arguments are closures that return a
0-d loss with its graph; ``benchmarks.per_tensor:build`` is an example.

Prints medians, the ratio to the floor within each round (median and quartiles), the extra memory at the peak in units
of one set of gradients, and the share that the best round reaches of the rate of a large matrix product (of
``--peak-tflops``, if given).

``--clock process`` counts the processor time of this process, for a machine that others use too; with several threads
that includes their waiting for each other. On CUDA it also says whether a step makes the host wait. Without
``--device`` it runs on the CPU, and on CUDA where there is one.
"""

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import (
    Work,
    flops,
    hardware,
    in_turns,
    matmul,
    paired_ratio,
    peak_bytes,
    waits_for_device,
)
from benchmarks.step_cases import CASES, Case, Closure, Task, prepare
from core.hamu import HAMU

LEARNING_RATE = 1e-6
"""So small that the model stays what it is: every round measures the same."""

CLOCKS = {"wall": time.perf_counter, "process": time.process_time}

Other = Callable[[Sequence[Tensor], float], Callable[[Closure, Closure], object]]


def floor(task: Task) -> Work:
    """Two passes into the same gradients and a plain SGD step."""
    optimizer = torch.optim.SGD(task.weights, lr=LEARNING_RATE)

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        for closure in (task.retain_loss, task.forget_loss):
            closure().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work


def our_step(task: Task, retain_loss: Closure, forget_loss: Closure) -> Work:
    """A step that always moves the weights: on random data the stop rule would otherwise end it early."""
    optimizer = HAMU(task.weights, LEARNING_RATE, stop_rule="none", on_infeasible="clip")

    def work() -> None:
        optimizer.step(retain_loss=retain_loss, forget_loss=forget_loss)
        optimizer.release()

    step = optimizer.step(retain_loss=retain_loss, forget_loss=forget_loss)
    optimizer.release()
    assert not step.should_stop, step.stop_reason
    return work


def ready(task: Task, closure: Closure) -> Closure:
    """A closure that hands over gradients it has computed once."""
    loss = closure()
    gradients = torch.autograd.grad(loss, list(task.weights), allow_unused=True)
    value = loss.detach()

    def again() -> Tensor:
        for weight, gradient in zip(task.weights, gradients, strict=True):
            weight.grad = gradient
        return value

    return again


def compare(case: Case, device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """All that is printed about one case on one device."""
    batch = dict(options.batch).get(case.name, case.batch)
    task = prepare(case, device, batch=batch)
    contenders = {"floor": floor(task), "step": our_step(task, task.retain_loss, task.forget_loss)}
    if options.other is not None:
        other = options.other(list(task.weights), LEARNING_RATE)
        contenders["other"] = lambda: other(task.retain_loss, task.forget_loss)
    for work in contenders.values():
        work()
    peaks = {name: _peak(task, work, device) for name, work in contenders.items()}
    operations = flops(contenders["floor"])
    contenders["own"] = our_step(task, ready(task, task.retain_loss), ready(task, task.forget_loss))
    product, product_operations = matmul(device, case.dtype)
    clock = CLOCKS["wall" if device.type == "cuda" else options.clock]
    everyone = contenders | {"": product}
    seconds = in_turns(everyone, rounds=options.steps, warm_up=options.warm_up, device=device, clock=clock)
    best = options.peak_tflops * 1e12 if options.peak_tflops else product_operations / min(seconds.pop(""))
    found = {
        "case": case.name,
        "device": device.type,
        "batch": batch,
        "tokens": case.tokens,
        "dtype": str(case.dtype).removeprefix("torch."),
        "tensors": len(task.weights),
        "weights": sum(weight.numel() for weight in task.weights),
        "steps": options.steps,
        "median_ms": {name: statistics.median(taken) * 1e3 for name, taken in seconds.items()},
        "to_floor": {name: paired_ratio(taken, seconds["floor"]) for name, taken in seconds.items()},
        "peak_mib": {name: peak / 2**20 for name, peak in peaks.items()},
        "gradient_mib": task.gradient_bytes / 2**20,
        "tflops": {name: operations / min(seconds[name]) / 1e12 for name in ("floor", "step")},
        "peak_tflops": best / 1e12,
    }
    if device.type == "cuda":
        found["waits"] = {name: waits_for_device(contenders[name]) for name in ("floor", "step", "own")}
    return found


def _peak(task: Task, work: Work, device: torch.device) -> int:
    """Peak of ``work`` when it starts without gradients."""
    for weight in task.weights:
        weight.grad = None
    return peak_bytes(work, device)


def describe(found: Mapping[str, Any]) -> str:
    """A case in a few lines."""
    size = f"{found['batch']}×{found['tokens']} tokens" if found["tokens"] else f"{found['batch']} images"
    lines = [
        f"{found['case']} on {found['device']}: {found['weights'] / 1e6:.2f} M weights in {found['tensors']} tensors, "
        f"{found['dtype']}, batches of {size}, {found['steps']} rounds"
    ]
    for name, median in found["median_ms"].items():
        low, middle, high = found["to_floor"][name]
        lines.append(f"  {name:6}{median:10.2f} ms   {middle:.3f} × floor ({low:.3f} to {high:.3f})")
    base = found["peak_mib"]["floor"]
    lines.append(f"  memory: floor {base:.1f} MiB at its peak; one set of gradients is {found['gradient_mib']:.1f} MiB")
    for name, peak in found["peak_mib"].items():
        if name != "floor":
            extra = peak - base
            lines.append(f"    {name:6} {extra:+.1f} MiB, {extra / found['gradient_mib']:+.2f} sets of gradients")
    for name, rate in found["tflops"].items():
        lines.append(
            f"  {name:6} at best {rate:.3f} of {found['peak_tflops']:.3f} TFLOP/s, {rate / found['peak_tflops']:.0%}"
        )
    for name, wait in found.get("waits", {}).items():
        lines.append(f"  {name:6} {'never makes the host wait' if wait is None else 'waits: ' + wait}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen cases and print them."""
    options = _options(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    everything: list[dict[str, Any]] = []
    for device in map(torch.device, options.device):
        known = hardware(device)
        if not options.json:
            print(", ".join(f"{name} {value}" for name, value in known.items()), flush=True)
        for case in (CASES[name] for name in options.case):
            if case.cuda_only and device.type != "cuda":
                continue
            found = compare(case, device, options)
            everything.append(found | {"hardware": known})
            if not options.json:
                print(describe(found), flush=True)
    if options.json:
        print(json.dumps(everything, indent=2))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a HAMU step against two plain passes.")
    here = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--device", nargs="+", choices=["cpu", "cuda"], default=here)
    parser.add_argument("--steps", type=int, default=15, help="rounds that count")
    parser.add_argument("--warm-up", type=int, default=3, help="rounds that do not")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="what times the CPU")
    parser.add_argument("--batch", nargs="+", type=_size, default=[], metavar="CASE=N", help="records of a batch")
    parser.add_argument("--other", type=_named, metavar="MODULE:CALLABLE", help="a third implementation")
    parser.add_argument("--peak-tflops", type=float, help="nominal peak, instead of a measured matrix product")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of text")
    return parser.parse_args(arguments)


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if name not in CASES or not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"CASE=N with a case of {', '.join(CASES)}, not {text!r}")
    return name, int(number)


def _named(text: str) -> Other:
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"MODULE:CALLABLE, not {text!r} ({error})") from error


if __name__ == "__main__":
    sys.exit(main())
