"""What an assessment found and what a step did: tensors on the device, read only when a row is asked for."""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from core.hamu.hardness import VERDICTS, Hardness, Verdict
from core.hamu.solve import Branch

StopReason = Literal["collateral_forgetting_unavoidable", "infeasible", "non_finite"]
STOP_REASONS: tuple[StopReason | None, ...] = (None, "collateral_forgetting_unavoidable", "infeasible", "non_finite")

Cell = float | str | bool | None
"""A value of a ledger row. None only for ``stop_reason`` of a step that goes on."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """Both gradients at one point, measured; the gradients themselves stay with the optimizer until the next one."""

    retain_loss: Tensor
    """0-d, detached."""
    forget_loss: Tensor
    """0-d, detached; of the whole forget set if the closure went through all of it."""
    gram: Tensor
    """(L, 3) float64 r·r, f·f, r·f of each block, not clipped."""
    parts: Tensor
    """(T, 3) float64, the same of each tensor that takes part."""
    retain_clip: Tensor
    """0-d factor in (0, 1] that the retain gradient is scaled by."""
    forget_clip: Tensor
    """0-d factor in (0, 1] that the forget gradient is scaled by."""
    hardness: Hardness
    """At the rate and quota that were set when the assessment was made."""
    serial: int
    """Which assessment of its optimizer this is: only the latest can be applied."""

    @property
    def verdict(self) -> Verdict:
        """Waits for the device."""
        return self.hardness.verdict

    def row(self) -> dict[str, Cell]:
        """Everything as plain numbers; waits for the device."""
        return {**_read(_losses(self) | _hardness(self.hardness)), "verdict": self.verdict}


@dataclass(frozen=True, slots=True)
class Step:
    """One step, planned or taken. Changes of losses are first-order and in real units: the clipping is undone."""

    assessment: Assessment
    hardness: Hardness
    """At the rate and quota of this step."""
    promised_forget_gain: Tensor
    """Σ f·Δ, in nats for a cross-entropy: how much the forget loss should rise."""
    predicted_retain_change: Tensor
    """Σ r·Δ: how much the retain loss should change; negative is better."""
    branch: Tensor
    """(L,) of ``Branch``."""
    along_forget: Tensor
    """(T,) a in Δ = a f + b r, for the gradients as they are (not clipped)."""
    along_retain: Tensor
    """(T,) b."""
    radius: Tensor
    """(L,) R of each block, in units of weight."""
    quotas: Tensor
    """(L,) Q of each block, in units of the clipped loss."""
    update_norm: Tensor
    """‖Δ‖ over the whole model, in units of weight, before the weights' own rounding."""
    stop_code: Tensor
    """0-d integer, an index into ``STOP_REASONS``."""
    rate: float | Tensor
    """η of this step."""

    @property
    def retain_loss(self) -> Tensor:
        return self.assessment.retain_loss

    @property
    def forget_loss(self) -> Tensor:
        return self.assessment.forget_loss

    @property
    def gram(self) -> Tensor:
        return self.assessment.gram

    @property
    def should_stop(self) -> Tensor:
        """0-d bool; when True the weights were left alone. ``if step.should_stop`` waits for the device."""
        return self.stop_code > 0

    @property
    def stop_reason(self) -> StopReason | None:
        """Waits for the device."""
        return STOP_REASONS[int(self.stop_code)]

    @property
    def verdict(self) -> Verdict:
        """Waits for the device."""
        return self.hardness.verdict

    def branch_shares(self) -> dict[str, Tensor]:
        """Share of the blocks that can move in each branch; they exclude each other and sum to 1 (0 if none can)."""
        moving = (self.branch != Branch.ABSENT).sum().clamp(min=1)
        taken = (Branch.DIRECT, Branch.RECTIFIED, Branch.COLINEAR, Branch.INFEASIBLE)
        return {branch.name.lower(): (self.branch == branch).sum() / moving for branch in taken}

    def row(self) -> dict[str, Cell]:
        """The ledger's row as plain numbers; waits for the device, once."""
        numbers = _losses(self.assessment) | _hardness(self.hardness) | self.branch_shares()
        numbers |= {
            "learning_rate": torch.as_tensor(self.rate, dtype=torch.float64),
            "promised_forget_gain": self.promised_forget_gain,
            "predicted_retain_change": self.predicted_retain_change,
            "update_norm": self.update_norm,
            "stop_code": self.stop_code,
            "verdict_code": self.hardness.verdict_code,
        }
        row = _read(numbers)
        stop, verdict = int(row.pop("stop_code")), int(row.pop("verdict_code"))
        return {**row, "verdict": VERDICTS[verdict], "should_stop": stop > 0, "stop_reason": STOP_REASONS[stop]}


def _losses(assessment: Assessment) -> dict[str, Tensor]:
    norms = assessment.parts[:, :2].sum(0).sqrt()
    return {
        "retain_loss": assessment.retain_loss,
        "forget_loss": assessment.forget_loss,
        "retain_grad_norm": norms[0],
        "forget_grad_norm": norms[1],
        "retain_clip": assessment.retain_clip,
        "forget_clip": assessment.forget_clip,
    }


def _hardness(hardness: Hardness) -> dict[str, Tensor]:
    return {
        "S": hardness.S,
        "C": hardness.C,
        "quota": hardness.quota,
        "kappa": hardness.kappa,
        "kappa_1": hardness.kappa_1,
        "kappa_2": hardness.kappa_2,
        "cosine": hardness.cosine,
        "stopping_margin": hardness.stopping_margin,
    }


def _read(numbers: dict[str, Tensor]) -> dict[str, float]:
    """One transfer for all of them."""
    device = next(iter(numbers.values())).device
    stacked = torch.stack([number.to(device, torch.float64) for number in numbers.values()])
    values = cast("list[float]", stacked.tolist())  # pyright: ignore[reportUnknownMemberType]
    return dict(zip(numbers, values, strict=True))
