"""``unlearn keys rotate-secret``: what the service keeps, brought from previous secrets under the current one."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

import typer
from sqlalchemy import Engine

from cli import environment
from cli.database import connected
from cli.output import console, print_json, stderr
from core.access import idempotency
from core.certificates import service as certificates
from core.datasets import rotating
from core.opendsr import service as opendsr
from core.platform.database import transaction
from core.platform.objects import open_store
from core.platform.resealing import Sealed, behind, reseal, strangers
from core.platform.secrets import Keyring
from core.runs import checkpoints
from core.webhooks import service as webhooks

SEALED: Final[Sequence[Sealed]] = (
    *certificates.SEALED,
    *webhooks.SEALED,
    *opendsr.SEALED,
    *checkpoints.SEALED,
)
"""Everything that is sealed again. Kept answers to repeated calls (``idempotency.SEALED``) go by themselves."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is not under the current secret: values by column, data sets by id. ``lost``: no secret opens these."""

    values: Mapping[str, int]
    datasets: Sequence[str]
    passing: int
    lost: Mapping[str, int]


def standing(engine: Engine, keyring: Keyring) -> Standing:
    """Changes nothing. Reads all identity digests when there are previous secrets, which may take a minute."""
    with transaction(engine) as tx:
        old = {sealed.name: behind(tx, sealed, keyring) for sealed in SEALED}
        lost = {sealed.name: strangers(tx, sealed, keyring) for sealed in SEALED}
        passing = sum(behind(tx, sealed, keyring) for sealed in idempotency.SEALED)
    datasets = rotating.behind(engine, keyring) if len(keyring.key_ids) > 1 else ()
    return Standing(_present(old), datasets, passing, _present(lost))


def rotate_secret(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False) -> None:
    """Bring everything that is kept under UNLEARN_PREVIOUS_SECRETS under UNLEARN_SECRET.

    Safe beside the running service and as often as wanted; goes on where it broke off. Exit code 1 when something had
    to stay under a previous secret.
    """
    settings = environment.resolved()
    keyring, store = Keyring.of(settings), open_store(settings)
    with connected(settings) as engine:
        columns = {sealed.name: reseal(engine, sealed, keyring) for sealed in SEALED}
        datasets = []
        for rotated in rotating.rotate(engine, store, keyring, scratch=settings.worker.work_dir):
            stderr.print(f"data set {rotated.name}: {rotated.why or f'{rotated.digests} digests made'}", markup=False)
            datasets.append(rotated)
    told: dict[str, Any] = {"sealed": {name: asdict(each) for name, each in columns.items()}}
    told["datasets"] = [asdict(rotated) for rotated in datasets]
    if as_json:
        print_json(told)
    else:
        done, lost = (sum(getattr(each, kind) for each in columns.values()) for kind in ("done", "lost"))
        console.print(f"{done} values sealed again, {lost} that no secret opens; {len(datasets)} data sets.")
    if any(each.lost for each in columns.values()) or any(rotated.why for rotated in datasets):
        sys.exit(1)


def _present(counts: Mapping[str, int]) -> Mapping[str, int]:
    return {name: count for name, count in counts.items() if count}
