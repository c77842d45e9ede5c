"""What a language model answers by itself: the likeliest token, again and again.

Slow (a forward pass a token), so it is done for a few records of a set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from core.unlearning.batches import Example, ExampleSet
from core.unlearning.bench import Bench
from core.unlearning.failures import Cancelled
from core.unlearning.models import max_tokens
from core.unlearning.text import UNSCORED, TextFamily


@dataclass(frozen=True, slots=True)
class Answer:
    """Token ids of one record, without the end token: what the model said, and what stands there."""

    said: NDArray[np.int64]
    expected: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Task:
    prompt: NDArray[np.int64]
    expected: NDArray[np.int64]


def greedy_answers(bench: Bench, family: TextFamily, examples: ExampleSet, *, most: int) -> list[Answer]:
    """Answers to the first ``most`` records, each as long as the right answer at most.

    The prompt is the record's own; of plain text, its first half. Raises ``Cancelled`` between batches.
    """
    answers: list[Answer] = []
    tasks = [_task(example, family.end_token) for example in islice(examples, most)]
    for i in range(0, len(tasks), bench.micro_batch_size):
        if bench.cancelled():
            raise Cancelled
        answers += _answered(bench, family.end_token, tasks[i : i + bench.micro_batch_size])
    return answers


def _task(example: Example, end: int) -> _Task:
    ids = cast("NDArray[np.int64]", example.values)
    asked = int((example.labels == UNSCORED).sum())
    cut = asked if asked > 1 else max(1, len(ids) // 2)
    expected = ids[cut:]
    return _Task(ids[:cut], expected[:-1] if len(expected) and expected[-1] == end else expected)


@torch.no_grad()
def _answered(bench: Bench, end: int, tasks: Sequence[_Task]) -> list[Answer]:
    longest = max(len(task.prompt) for task in tasks)
    ids = np.full((len(tasks), longest), end, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, task in enumerate(tasks):  # padded on the left, so that every answer begins at the same place
        ids[i, longest - len(task.prompt) :], mask[i, longest - len(task.prompt) :] = task.prompt, 1
    device = bench.model.device
    said = cast("Any", bench.model.model).generate(
        input_ids=torch.from_numpy(ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        generation_config=GenerationConfig(
            do_sample=False, max_new_tokens=_room(bench, tasks, longest), eos_token_id=end, pad_token_id=end
        ),
    )
    new = said[:, longest:].cpu().numpy()
    return [Answer(_until(row, end)[: len(task.expected)], task.expected) for row, task in zip(new, tasks, strict=True)]


def _room(bench: Bench, tasks: Sequence[_Task], prompt: int) -> int:
    wanted = max(1, *(len(task.expected) for task in tasks))
    limit = max_tokens(bench.model.config)
    return wanted if limit is None else max(1, min(wanted, limit - prompt))


def _until(tokens: NDArray[np.int64], end: int) -> NDArray[np.int64]:
    ends = np.flatnonzero(tokens == end)
    return tokens[: ends[0]] if len(ends) else tokens
