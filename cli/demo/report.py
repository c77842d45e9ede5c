"""What the demo shows at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.panel import Panel
from rich.table import Table

from cli.output import console

_VERDICTS: Final = {
    "easy": "both objectives improve together",
    "hard": "forgetting costs retained data something",
    "irreconcilable": "both objectives cannot improve at once; a person should decide",
}
_STOPS: Final = {
    "target_reached": "the forget loss is where never-seen records' is",
    "targets_unmet": "the forget loss is where never-seen records' is, another target is not met: docs/models.md",
    "retain_budget_exhausted": "the allowed fall of retain accuracy is spent",
    "max_steps": "the policy's number of steps is used up",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything the report draws on."""

    request: Mapping[str, Any]
    run: Mapping[str, Any]
    version: Mapping[str, Any]
    webhook_checked_by: str
    seconds: float
    docs: str
    """Where the documentation is to be seen."""


def print_report(shown: Shown) -> None:
    """The short report: what was asked, how hard it was, what changed, where to look further."""
    run, hardness = shown.run, shown.run.get("hardness") or {}
    verdict, stop = str(hardness.get("verdict")), str(run.get("stop_reason"))
    console.print()
    console.print(Panel(_metrics(run["metrics"]), title="before and after", expand=False))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("request", f"{shown.request['id']}  {shown.request['status']}, {run['forget_records']} records")
    facts.add_row("hardness", f"[bold]{verdict}[/] ({_VERDICTS.get(verdict, '')})")
    facts.add_row("", _numbers(hardness, ("kappa", "kappa_1", "kappa_2", "cosine")))
    facts.add_row("steps", f"{(run.get('progress') or {}).get('step')}")
    facts.add_row("stopped", f"[bold]{stop}[/] ({_STOPS.get(stop, 'see the documentation')})")
    facts.add_row("evidence", f"[bold]{run['verdict']}[/], {_gates(run['gates'])}")
    facts.add_row(
        "version", f"{run['base_version']} → [bold]{run['published_version']}[/], SHA-256 of every file checked"
    )
    facts.add_row("webhook", f"deletion_request.completed, verified by {shown.webhook_checked_by}")
    facts.add_row("time", f"{shown.seconds:.0f} s from request to published version")
    facts.add_row("docs UI", shown.docs)
    console.print(facts)


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    passed = sum(gate["status"] == "passed" for gate in gates)
    undecided = sum(gate["status"] == "undecided" for gate in gates)
    return f"{passed} of {len(gates)} gates passed, {undecided} undecided"


def _metrics(metrics: Mapping[str, Any]) -> Table:
    table = Table(box=None)
    table.add_column("")
    for column in ("loss before", "after", "accuracy before", "after"):
        table.add_column(column, justify="right")
    before, after = metrics["before"], metrics["after"]
    names: Sequence[tuple[str, str]] = (
        ("forget", "forget (to be unlearned)"),
        ("retain", "retain (the rest)"),
        ("holdout", "holdout (never seen)"),
    )
    for name, label in names:
        table.add_row(
            label,
            *_pair(before[name], after[name], "loss", ".4f"),
            *_pair(before[name], after[name], "accuracy", ".1%"),
        )
    auc = (before.get("membership_auc"), after.get("membership_auc"))
    table.add_row(
        "membership AUC", *(f"{value:.3f}" if value is not None else "–" for value in auc), "(0.5: no trace)", ""
    )
    return table


def _pair(before: Mapping[str, Any], after: Mapping[str, Any], key: str, form: str) -> tuple[str, str]:
    return format(before[key], form), format(after[key], form)


def _numbers(values: Mapping[str, Any], names: Sequence[str]) -> str:
    return "  ".join(f"{name} {values[name]:.4g}" for name in names if values.get(name) is not None)
