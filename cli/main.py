"""``unlearn``: every command, and the one place that turns failures into words and exit codes."""

from typing import Any

import typer
from typer.core import TyperGroup

from cli import (
    assessments,
    audit,
    backups,
    certificates,
    datasets,
    doctor,
    holds,
    keys,
    models,
    reports,
    requests,
    running,
    runs,
    webhooks,
)
from cli.demo import command as demo
from cli.output import Failed, show_failure
from core.platform.embedded import Misconfigured
from core.platform.errors import DomainError


class _Commands(TyperGroup):
    """Shows expected failures in plain words, with exit code 1, instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (Failed, Misconfigured) as failure:
            show_failure(str(failure))
        except DomainError as failure:
            problems = "".join(f"\n  {problem.pointer}: {problem.detail}" for problem in failure.problems)
            show_failure(failure.detail + problems)
        raise typer.Exit(1)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Deletion requests in, unlearned model versions out.",
)
app.command()(running.up)
app.command()(demo.demo)
app.command()(doctor.doctor)
app.command()(running.migrate)
app.command()(running.serve)
app.command()(running.worker)
app.command()(running.loops)
app.add_typer(keys.app, name="keys")
app.add_typer(backups.app, name="backup")
app.add_typer(datasets.app, name="datasets")
app.add_typer(models.app, name="models")
app.add_typer(requests.app, name="requests")
app.add_typer(assessments.app, name="assessments")
app.add_typer(runs.app, name="runs")
app.add_typer(certificates.app, name="certificates")
app.add_typer(audit.app, name="audit")
app.add_typer(reports.app, name="reports")
app.add_typer(holds.app, name="holds")
app.add_typer(webhooks.app, name="webhooks")
