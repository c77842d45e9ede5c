"""The processes that carry out one run together, each with a copy of the model and a share of the records.

All of them take the same decisions, because every number that one is based on is the same on all: what each found in
its share is put together before it is looked at. A single process is ``Ranks()``, for which all of this does nothing.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of its run."""

    rank: int = 0
    size: int = 1
    group: ProcessGroup | None = None
    """None for a single process."""

    @property
    def leads(self) -> bool:
        """Whether it is this process that reports and writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of ``count`` things are this process's: consecutive ones, as many as others have, give or take one."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gather(self, own: list[T]) -> list[T]:
        """The lists of all processes in their order, one after the other."""
        if self.group is None:
            return own
        found: list[list[T]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(found, own, group=self.group)
        return list(chain.from_iterable(found))

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set on one of them at least."""
        return any(self.gather([flag]))

    def mean(self, value: Tensor, weight: float) -> float:
        """The mean of a 0-d ``value``, of which each process counts ``weight`` times; nan if all weights are 0."""
        if self.group is None:
            return float(value)
        weighted = torch.stack((value.double() * weight, torch.full_like(value, weight, dtype=torch.float64)))
        distributed.all_reduce(weighted, group=self.group)
        return float(weighted[0] / weighted[1])


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun's launcher has started, this one on ``device``; each waits here for the others."""
    if sys.platform == "linux":  # all of them are on this machine: no port is to be reached from outside
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        group = cast("ProcessGroup", distributed.group.WORLD)
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), group)
    finally:
        distributed.destroy_process_group()
