"""Causal language models: prompt and response become tokens, and only the response is scored."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from core.evaluation.observations import Observation, TokenAnswers
from core.unlearning.batches import Answers, Batch, Example, Scores
from core.unlearning.failures import UnlearningError
from core.unlearning.records import Record

UNSCORED = -100


@dataclass(frozen=True, slots=True)
class Variants:
    """Other answers to a record's prompt: the right one in other words, and wrong ones that read alike."""

    paraphrase: Example
    perturbed: list[Example]


class TextFamily:
    """Prompt and response, or plain text, scored with token cross-entropy.

    The prompt is ``prompt_template`` with ``{prompt}`` filled in, tokenised without special tokens; the response is
    tokenised by itself, also without; the end-of-sequence token is appended. The loss covers response tokens and
    end-of-sequence; the first token of a record has nothing before it and cannot be scored, so plain text (no prompt)
    is scored from its second token. A record longer than the model's positions loses the beginning of its prompt
    first, then the end of its response; at least one prompt token stays.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        columns: Mapping[str, Any],
        prompt_template: str,
        end_token: int,
        max_tokens: int | None,
    ) -> None:
        """Raises ``UnlearningError`` when the dataset declares neither ``response`` nor ``text``."""
        self._tokenizer = tokenizer
        self._one_at_a_time = threading.Lock()  # tokenizers do not promise to be safe among threads
        self._template = prompt_template
        self.end_token: int = end_token
        self._max = max_tokens
        self._prompt: str | None = columns.get("prompt")
        response = columns.get("response") or columns.get("text")
        if not isinstance(response, str):
            raise UnlearningError("bad_dataset", "A text dataset needs a column for 'response' or for 'text'.")
        self._response = response
        self._paraphrase: str | None = columns.get("paraphrase")
        self._perturbed: str | None = columns.get("perturbed")
        self.columns: Sequence[str] = [name for name in (self._prompt, self._response) if name]

    @property
    def variant_columns(self) -> Sequence[str]:
        """The columns that ``variants`` needs besides ``columns``; none if the dataset has no such answers."""
        both = self._paraphrase, self._perturbed
        return [name for name in both if name] if all(both) else []

    def encode(self, record: Record) -> Example:
        """Token ids and labels, both (tokens,). Raises ``BadRecord``."""
        prompt = (
            self._tokens(self._template.replace("{prompt}", self._text(record, self._prompt))) if self._prompt else []
        )
        response = [*self._tokens(self._text(record, self._response)), self.end_token]
        if self._max and len(prompt) + len(response) > self._max:
            prompt = prompt[-max(1, self._max - len(response)) :] if prompt else []
            response = response[: self._max - len(prompt)]
        if len(prompt) + len(response) < 2:
            raise record.bad("it holds no text that could be scored")
        ids = np.array([*prompt, *response], dtype=np.int64)
        labels = np.array([*[UNSCORED] * len(prompt), *response], dtype=np.int64)
        labels[0] = UNSCORED
        return Example(ids, labels)

    def variants(self, record: Record) -> Variants | None:
        """The record's paraphrase and its wrong answers, encoded; None if it lacks either. Raises ``BadRecord``."""
        paraphrase, wrong = (record.values.get(name or "") for name in (self._paraphrase, self._perturbed))
        if not isinstance(paraphrase, str) or not isinstance(wrong, list) or not wrong:
            return None
        return Variants(self._reworded(record, paraphrase), [self._reworded(record, text) for text in wrong])

    def _reworded(self, record: Record, response: object) -> Example:
        return self.encode(Record(record.file, record.row, {**record.values, self._response: response}))

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """Padded on the right to the longest record: ids, mask and labels, each (records, tokens)."""
        shape = (len(examples), max(len(example.values) for example in examples))
        ids, mask, labels = (np.full(shape, fill, dtype=np.int64) for fill in (self.end_token, 0, UNSCORED))
        for i, example in enumerate(examples):
            n = len(example.values)
            ids[i, :n], mask[i, :n], labels[i, :n] = example.values, 1, example.labels
        inputs = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
        return Batch(inputs, torch.from_numpy(labels).to(device))

    def score(self, model: nn.Module, batch: Batch) -> Scores:
        """Mean cross-entropy over each record's scored tokens, in nats; answers are tokens."""
        losses, right, scored = _answered(self._logits(model, batch), batch.labels[:, 1:])
        counted = scored.sum(dim=1)
        return Scores(losses.sum(dim=1) / counted, right.sum(dim=1), counted)

    @torch.no_grad()
    def observe(self, model: nn.Module, batch: Batch) -> Observation:
        """The scores, and each scored token's log-probability beside those of the whole vocabulary.

        The vocabulary's are looked at a record at a time, so no second array of the logits' size is made.
        """
        logits = self._logits(model, batch)
        losses, right, scored = _answered(logits, batch.labels[:, 1:])
        counted = scored.sum(dim=1)
        spreads = [_own_spread(said[here]) for said, here in zip(logits, scored, strict=True)]
        answers = TokenAnswers(
            log_probabilities=-losses[scored].cpu().numpy(),
            right=right[scored].cpu().numpy(),
            expected=torch.cat([expected for expected, _ in spreads]).cpu().numpy(),
            spread=torch.cat([spread for _, spread in spreads]).cpu().numpy(),
            lengths=counted.cpu().numpy(),
        )
        scores = Scores(losses.sum(dim=1) / counted, right.sum(dim=1), counted)
        return Observation(scores.on_host(), answers)

    def answers(self, model: nn.Module, batch: Batch) -> Answers:
        """What is said at each token, given those before it."""
        return Answers(F.log_softmax(self._logits(model, batch), dim=-1), batch.labels[:, 1:] != UNSCORED)

    @staticmethod
    def _logits(model: nn.Module, batch: Batch) -> Tensor:
        """(records, tokens - 1, vocabulary): what is said before each token but the first."""
        return model(**batch.inputs, use_cache=False).logits[:, :-1].float()

    def _tokens(self, text: str) -> list[int]:
        with self._one_at_a_time:
            return self._tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportReturnType]

    @staticmethod
    def _text(record: Record, column: str | None) -> str:
        value = record.values.get(column or "")
        if not isinstance(value, str):
            raise record.bad(f"column {column!r} holds no text")
        return value


def _answered(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each place, (records, tokens - 1): loss in nats (0 where nothing is scored), right or not, scored or not."""
    losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=UNSCORED, reduction="none")
    scored = labels != UNSCORED
    return losses, (logits.argmax(dim=-1) == labels) & scored, scored


def _own_spread(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of log p under p itself, both (tokens,); logits (tokens, vocabulary)."""
    log_p = F.log_softmax(logits, dim=-1)
    p = log_p.exp()
    expected = (p * log_p).sum(dim=-1)
    return expected, (p * (log_p - expected[:, None]).square()).sum(dim=-1).sqrt()
