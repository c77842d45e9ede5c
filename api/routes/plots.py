"""Plots of runs and of hardness assessments."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Response

from api.deps import Tx, requires
from api.errors import problems
from api.waiting import IfNoneMatch, not_modified, unchanged
from core.access.principal import Principal
from core.assessments import service as assessments
from core.plots import Evidence, Plot, draw
from core.runs import service as runs
from core.runs.tables import Run

router = APIRouter(prefix="/v1")

RunReader = Annotated[Principal, requires("runs:read")]
AssessmentReader = Annotated[Principal, requires("deletions:read")]

MEDIA_TYPE: Final = "image/svg+xml"
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""A drawing's own style attributes, and nothing else: no script, no font, no image."""
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The drawing", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
    304: {"description": "Nothing has changed"},
    **problems(401, 403, 404, 409, 422),
}


@router.get(
    "/runs/{run_id}/plots/{plot}.svg",
    tags=["runs"],
    summary="Draw a run",
    response_class=Response,
    responses=_ANSWERS,
)
def draw_run(run_id: str, plot: Plot, caller: RunReader, tx: Tx, if_none_match: IfNoneMatch = None) -> Response:
    """One plot as SVG, readable in black and white: `losses`, `hardness` (κ between κ₁ and κ₂, branches), `promise`
    (against what was realised), `membership` (scores before and after), `layers` (hardness by layer), or `attacks`
    (rounded weights, relearning).

    It shows the latest attempt as far as it has come; 409 `nothing_to_plot` before there is anything to show.
    """
    run = runs.get(tx, workspace_id=caller.workspace_id, run_id=run_id).run
    if unchanged(if_none_match, _etag(run)):
        return not_modified({"ETag": _etag(run)})
    steps = runs.steps(tx, workspace_id=caller.workspace_id, run_id=run_id, after=-1)
    return _drawing(plot, run, Evidence([step.row for step in steps], run.hardness or {}, run.metrics or {}))


@router.get(
    "/hardness-assessments/{assessment_id}/plots/layers.svg",
    tags=["hardness assessments"],
    summary="Draw the layers of a hardness assessment",
    response_class=Response,
    responses=_ANSWERS,
)
def draw_assessment(
    assessment_id: str, caller: AssessmentReader, tx: Tx, if_none_match: IfNoneMatch = None
) -> Response:
    """A heat map as SVG: each layer's κ over ‖r‖‖f‖ and its share of what a step can gain."""
    run = assessments.get(tx, workspace_id=caller.workspace_id, assessment_id=assessment_id).run
    if unchanged(if_none_match, _etag(run)):
        return not_modified({"ETag": _etag(run)})
    return _drawing("layers", run, Evidence(hardness=run.hardness or {}))


def _etag(run: Run) -> str:
    return f'"{run.revision}"'


def _drawing(plot: Plot, run: Run, evidence: Evidence) -> Response:
    headers = {"ETag": _etag(run), "Content-Security-Policy": _POLICY}
    return Response(draw(plot, evidence), media_type=MEDIA_TYPE, headers=headers)
