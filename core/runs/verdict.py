"""What becomes of a finished job: publish, ask a person, fail, or stop. Pure; no database."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.policies.body import Policy
from core.unlearning.job import Failure, Outcome

Ruling = Literal["publish", "keep", "review", "fail", "cancel"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The ruling; ``why`` says it in a code, ``failure`` in words when it is ``fail``.

    ``keep`` is for an assessment that has measured.
    """

    ruling: Ruling
    why: str
    failure: Failure | None = None


def rule(outcome: Outcome, *, policy: Policy, cancel_requested: bool) -> Decision:
    """Publish only what is complete and has a verdict that the policy publishes on; the first of these decides:

    a wish to cancel (even one that came before the end), a failure, a missing result, losses that are not finite, a
    stop reason that the policy sends to a person, weights that are as they were, the verdict by the policy. A result
    without a verdict counts as ``inconclusive``.
    """
    if cancel_requested or outcome.stop_reason == "cancelled":
        return Decision("cancel", "cancelled")
    if outcome.failure is not None:
        return Decision("fail", outcome.failure.code, outcome.failure)
    reason = outcome.stop_reason
    if reason is None:
        return _fail("no_result", "The run ended without a result.", retryable=True)
    if reason == "non_finite" and reason not in policy.needs_review_on:
        return _fail(
            reason, "The losses became infinite or undefined; lower the policy's learning rate or max_grad_norm."
        )
    if reason in policy.needs_review_on:
        return Decision("review", reason)
    if changed_nothing(outcome.gates):
        return _fail("nothing_changed", UNCHANGED)
    return _by_verdict(outcome, policy, reason)


UNCHANGED = "The weights are as they were before the run, so nothing has been unlearned and nothing can be published."


def changed_nothing(gates: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the gate on the weights' displacement says that none of them moved."""
    return any(gate.get("name") == "displacement" and gate.get("status") == "failed" for gate in gates)


def _by_verdict(outcome: Outcome, policy: Policy, reason: str) -> Decision:
    verdict = outcome.verdict or "inconclusive"
    if verdict in policy.fail_on:
        return _fail(f"verdict_{verdict}", " ".join((f"The verdict is {verdict}.", *outcome.verdict_reasons)))
    if verdict not in policy.publish_on:
        return Decision("review", f"verdict_{verdict}")
    if not outcome.staged:
        message = f"The run stopped ({reason}) before there were weights to publish; see its steps and hardness."
        return _fail("nothing_to_publish", message)
    return Decision("publish", reason)


def _fail(code: str, message: str, *, retryable: bool = False) -> Decision:
    return Decision("fail", code, Failure(code, message, retryable=retryable))


def rule_assessment(outcome: Outcome, *, cancel_requested: bool) -> Decision:
    """An assessment has succeeded when there is a hardness; whatever it says, nothing is published and nobody asked."""
    if cancel_requested or outcome.stop_reason == "cancelled":
        return Decision("cancel", "cancelled")
    if outcome.failure is not None:
        return Decision("fail", outcome.failure.code, outcome.failure)
    if outcome.hardness is None:
        message = "The assessment ended without a result."
        return Decision("fail", "no_result", Failure("no_result", message, retryable=True))
    return Decision("keep", "assessed")
