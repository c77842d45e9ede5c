"""What becomes of a finished job: publish, ask a person, fail, or stop. Pure; no database."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from core.unlearning.job import Failure, Outcome

Ruling = Literal["publish", "keep", "review", "fail", "cancel"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ruling; ``why`` says it in a code, ``failure`` in words when it is ``fail``.

    ``keep`` is for an assessment that has measured.
    """

    ruling: Ruling
    why: str
    failure: Failure | None = None


def rule(outcome: Outcome, *, needs_review_on: Collection[str], cancel_requested: bool) -> Verdict:
    """Publish only what is complete, healthy and inside every gate; a person decides what the policy leaves to one.

    A wish to cancel that came before the end wins over any result: a cancelled run publishes nothing.
    """
    if cancel_requested or outcome.stop_reason == "cancelled":
        return Verdict("cancel", "cancelled")
    if outcome.failure is not None:
        return Verdict("fail", outcome.failure.code, outcome.failure)
    reason = outcome.stop_reason
    if reason is None:
        return Verdict("fail", "no_result", Failure("no_result", "The run ended without a result.", retryable=True))
    if reason == "non_finite" and reason not in needs_review_on:
        message = "The losses became infinite or undefined; lower the policy's learning rate or max_grad_norm."
        return Verdict("fail", reason, Failure(reason, message, retryable=False))
    if reason in needs_review_on:
        return Verdict("review", reason)
    failed = [str(gate.get("name")) for gate in outcome.gates if not gate.get("passed")]
    if failed:
        return Verdict("review", f"gate_failed:{','.join(failed)}")
    if not outcome.staged:
        message = f"The run stopped ({reason}) before there were weights to publish; see its steps and hardness."
        return Verdict("fail", "nothing_to_publish", Failure("nothing_to_publish", message, retryable=False))
    return Verdict("publish", reason)


def rule_assessment(outcome: Outcome, *, cancel_requested: bool) -> Verdict:
    """An assessment has succeeded when there is a hardness; whatever it says, nothing is published and nobody asked."""
    if cancel_requested or outcome.stop_reason == "cancelled":
        return Verdict("cancel", "cancelled")
    if outcome.failure is not None:
        return Verdict("fail", outcome.failure.code, outcome.failure)
    if outcome.hardness is None:
        message = "The assessment ended without a result."
        return Verdict("fail", "no_result", Failure("no_result", message, retryable=True))
    return Verdict("keep", "assessed")
