"""Commands over the API: what they send, what they show, and how they fail."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

Unlearn = Callable[..., Result]
Fake = Any
REQUEST = {"id": "del_1", "status": "pending", "status_detail": "queued", "record_count": 2, "run_ids": []}


def ok(body: Any, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=body, headers=headers)


def _problem(status: int, **fields: Any) -> httpx.Response:
    return httpx.Response(status, json=fields, headers={"Content-Type": "application/problem+json"})


def test_a_request_sends_what_was_asked_and_nothing_else(service: Fake, unlearn: Unlearn, tmp_path: Path) -> None:
    service.on("POST /v1/deletion-requests", ok(REQUEST, 202))
    (tmp_path / "ids").write_text("r-2\n\n  r-3\n")
    result = unlearn(
        "requests", "submit", "--model", "m", "--record", "r-1", "--records-file", str(tmp_path / "ids"),
        "--subject", "s", "--identity", "email=a@b.c", "--external-id", "X-1", "--metadata", "team=privacy", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == REQUEST
    assert service.sent("POST /v1/deletion-requests") == [
        {
            "model": "m",
            "record_ids": ["r-1", "r-2", "r-3"],
            "subject_ids": ["s"],
            "identities": [{"type": "email", "value": "a@b.c"}],
            "external_id": "X-1",
            "metadata": {"team": "privacy"},
        }
    ]
    sent = service.seen[0]
    assert sent.headers["Authorization"] == "Bearer unl_live_secret"
    assert sent.headers["Idempotency-Key"]


def test_a_request_repeated_after_a_broken_connection_carries_the_same_key(service: Fake, unlearn: Unlearn) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset", request=request)

    service.on("POST /v1/deletion-requests", broken, ok(REQUEST, 202))
    assert unlearn("requests", "submit", "--model", "m", "--record", "r").exit_code == 0
    first, second = service.seen
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


def test_a_problem_is_shown_in_words_with_its_places(service: Fake, unlearn: Unlearn) -> None:
    errors = [{"pointer": "/record_ids/0", "code": "unknown_record", "detail": "There is no such record."}]
    service.on(
        "POST /v1/deletion-requests",
        _problem(422, detail="Some records do not exist.", code="unknown_records", errors=errors),
    )
    result = unlearn("requests", "submit", "--model", "m", "--record", "nobody")
    assert result.exit_code == 1
    assert "Some records do not exist. (unknown_records)" in result.stderr
    assert "/record_ids/0: There is no such record." in result.stderr
    assert "Traceback" not in result.output


def test_an_outage_is_waited_out_and_then_told(service: Fake, unlearn: Unlearn) -> None:
    service.on("GET /v1/runs/run_1", _problem(503, detail="The database does not answer.", code="dependency_down"))
    result = unlearn("runs", "show", "run_1")
    assert result.exit_code == 1
    assert len(service.seen) == 3
    assert "The database does not answer." in result.stderr


def test_an_answer_that_is_no_problem_document_is_told_as_well(service: Fake, unlearn: Unlearn) -> None:
    service.on("GET /v1/runs/run_1", httpx.Response(502, text="<html>"))
    result = unlearn("runs", "show", "run_1")
    assert result.exit_code == 1
    assert "502 Bad Gateway" in result.stderr


def test_a_missing_key_is_named(service: Fake, unlearn: Unlearn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNLEARN_KEY")
    result = unlearn("requests", "list")
    assert result.exit_code == 1
    assert "UNLEARN_KEY" in result.stderr
    assert service.seen == []


def test_lists_follow_the_cursor_up_to_the_limit(service: Fake, unlearn: Unlearn) -> None:
    rows = [{**REQUEST, "id": f"del_{i}"} for i in range(3)]
    service.on(
        "GET /v1/deletion-requests",
        ok({"data": rows[:2], "next_cursor": "c1", "has_more": True}),
        ok({"data": rows[2:], "next_cursor": None, "has_more": False}),
    )
    result = unlearn("requests", "list", "--status", "pending", "--json")
    assert [row["id"] for row in json.loads(result.stdout)] == ["del_0", "del_1", "del_2"]
    assert dict(service.seen[0].url.params) == {"limit": "50", "status": "pending"}
    assert dict(service.seen[1].url.params) == {"limit": "48", "cursor": "c1", "status": "pending"}


def test_following_asks_only_for_what_changed_and_fails_unless_completed(service: Fake, unlearn: Unlearn) -> None:
    running = {**REQUEST, "status": "in_progress", "run_ids": ["run_1"]}
    run = {"id": "run_1", "status": "unlearning", "progress": {"step": 3, "max_steps": 200}}
    service.on(
        "GET /v1/deletion-requests/del_1",
        ok(running, ETag='"1"'),
        httpx.Response(304),
        ok({**running, "status": "failed", "status_detail": "no memory"}, ETag='"2"'),
    )
    service.on("GET /v1/runs/run_1", ok(run))
    result = unlearn("requests", "follow", "del_1", "--json")
    assert result.exit_code == 1
    assert "failed: no memory" in result.stderr
    asked = [r.headers.get("If-None-Match") for r in service.seen if r.url.path.endswith("del_1")]
    assert asked == [None, '"1"', '"1"']


def test_a_completed_request_ends_well(service: Fake, unlearn: Unlearn) -> None:
    service.on("POST /v1/deletion-requests", ok(REQUEST, 202))
    service.on("GET /v1/deletion-requests/del_1", ok(REQUEST), ok({**REQUEST, "status": "completed"}))
    result = unlearn("requests", "submit", "--model", "m", "--subject", "s", "--follow")
    assert result.exit_code == 0, result.output
    assert "completed" in result.stdout


def test_a_folder_is_uploaded_whole_and_registered(service: Fake, unlearn: Unlearn, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "base" / "w.safetensors").write_bytes(b"0123456789")
    stored: dict[str, bytes] = {}

    def take(request: httpx.Request) -> httpx.Response:
        assert "Authorization" not in request.headers, "the store must not see the API key"
        assert request.headers["Content-Length"] == str(len(request.content))
        stored[request.url.path] = request.content
        return httpx.Response(200)

    opened = {
        "id": "up_1",
        "files": [
            {"path": "base/w.safetensors", "method": "PUT", "url": None, "headers": {}, "parts": [
                {"number": 1, "size": 6, "url": "http://store.test/w/1"},
                {"number": 2, "size": 4, "url": "http://store.test/w/2"},
            ]},
            {"path": "config.json", "method": "PUT", "url": "http://store.test/c", "headers": {"x-a": "b"}},
        ],
    }  # fmt: skip
    service.on("POST /v1/uploads", ok(opened, 201))
    for path in ("/w/1", "/w/2", "/c"):
        service.on(f"PUT {path}", take)
    service.on("POST /v1/uploads/up_1/complete", ok({"id": "up_1", "status": "complete"}))
    service.on("POST /v1/models", ok({"name": "m"}, 201))
    service.on("POST /v1/models/m/versions", ok({"version": 1, "model": "m"}, 201))

    result = unlearn("models", "register", "m", str(tmp_path), "--task", "causal-lm", "--dataset", "d", "--json")
    assert result.exit_code == 0, result.output
    assert stored == {"/w/1": b"012345", "/w/2": b"6789", "/c": b"{}"}
    announced = service.sent("POST /v1/uploads")[0]["files"]
    assert {file["path"]: file["sha256"] for file in announced} == {
        "config.json": hashlib.sha256(b"{}").hexdigest(),
        "base/w.safetensors": hashlib.sha256(b"0123456789").hexdigest(),
    }
    assert service.sent("POST /v1/models") == [{"name": "m", "task": "causal-lm", "dataset": "d"}]
    assert service.sent("POST /v1/models/m/versions") == [{"upload_id": "up_1"}]


def test_a_store_that_refuses_is_told_and_nothing_is_registered(
    service: Fake, unlearn: Unlearn, tmp_path: Path
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"x")
    file = {"path": "a.parquet", "method": "PUT", "url": "http://store.test/a", "headers": {}, "parts": None}
    service.on("POST /v1/uploads", ok({"id": "up_1", "files": [file]}, 201))
    service.on("PUT /a", httpx.Response(403, text="SignatureDoesNotMatch"))
    arguments = ["datasets", "register", "d", str(tmp_path / "a.parquet"), "--task", "causal-lm"]
    result = unlearn(*arguments, "--column", "record_id=id")
    assert result.exit_code == 1
    assert "a.parquet: 403 SignatureDoesNotMatch" in result.stderr
    assert [request.url.path for request in service.seen] == ["/v1/uploads", "/a"]


def test_a_data_set_where_it_lies_is_waited_for(service: Fake, unlearn: Unlearn) -> None:
    service.on("POST /v1/datasets", ok({"name": "d", "status": "indexing"}, 202))
    service.on("GET /v1/datasets/d", ok({"name": "d", "status": "indexing"}), ok({"name": "d", "status": "ready"}))
    result = unlearn(
        "datasets", "register", "d", "s3://bucket/d/", "--task", "image-classification", "--column", "record_id=id",
        "--column", "image=px", "--identity", "email=mail", "--image-shape", "8,8,1", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["status"] == "ready"
    assert service.sent("POST /v1/datasets") == [
        {
            "name": "d",
            "task": "image-classification",
            "format": "parquet",
            "columns": {"record_id": "id", "image": "px", "identities": {"email": "mail"}},
            "image_shape": [8, 8, 1],
            "source_uri": "s3://bucket/d/",
        }
    ]


def test_a_data_set_that_cannot_be_indexed_fails_with_the_reason(service: Fake, unlearn: Unlearn) -> None:
    service.on("POST /v1/datasets", ok({"name": "d"}, 202))
    service.on("GET /v1/datasets/d", ok({"name": "d", "status": "failed", "error": "row 7: the id is null"}))
    result = unlearn("datasets", "register", "d", "s3://b/", "--task", "causal-lm", "--column", "record_id=id")
    assert result.exit_code == 1
    assert "row 7: the id is null" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--column", "record_id"], "--column"),
        (["--column", "record_id=id", "--image-shape", "8x8"], "--image-shape"),
        (["--column", "record_id=id", "--identity", "=x"], "--identity"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    service: Fake, unlearn: Unlearn, arguments: list[str], words: str
) -> None:
    result = unlearn("datasets", "register", "d", "s3://b/", "--task", "causal-lm", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert service.seen == []


def _version(content: bytes, path: str = "model.safetensors") -> dict[str, Any]:
    digest = hashlib.sha256(b"weights").hexdigest()
    return {
        "version": 2,
        "files": [{"path": path, "size": len(content), "sha256": digest, "url": "http://store.test/w"}],
    }


def test_downloaded_weights_are_checked_before_they_get_their_name(
    service: Fake, unlearn: Unlearn, tmp_path: Path
) -> None:
    service.on("GET /v1/models/m/versions/latest", ok(_version(b"weights")))
    service.on("GET /w", httpx.Response(200, content=b"weights"))
    assert unlearn("models", "download", "m", "latest", str(tmp_path / "new")).exit_code == 0
    assert (tmp_path / "new" / "model.safetensors").read_bytes() == b"weights"

    service.on("GET /w", httpx.Response(200, content=b"WEIGHTS"))
    result = unlearn("models", "download", "m", "latest", str(tmp_path / "evil"))
    assert result.exit_code == 1
    assert "is not what was published" in result.stderr
    assert list((tmp_path / "evil").iterdir()) == []


def test_a_file_name_that_leads_elsewhere_is_refused(service: Fake, unlearn: Unlearn, tmp_path: Path) -> None:
    service.on("GET /v1/models/m/versions/2", ok(_version(b"weights", "../evil")))
    result = unlearn("models", "download", "m", "2", str(tmp_path / "new"))
    assert result.exit_code == 1
    assert not (tmp_path / "evil").exists()


def test_scores_of_records_are_read_page_by_page(service: Fake, unlearn: Unlearn) -> None:
    rows = [{"record_id": name, "loss_before": 0.01, "loss_after": 1.5, "note": "x"} for name in ("r-1", "r-2")]
    pages = [{"data": rows[:1], "next_cursor": "c", "has_more": True}, {"data": rows[1:], "next_cursor": None}]
    service.on("GET /v1/runs/run_1/records", ok(pages[0]), ok(pages[1]))
    result = unlearn("runs", "records", "run_1", "--csv")
    assert result.stdout.splitlines() == ["record_id,loss_before,loss_after,note", "r-1,0.01,1.5,x", "r-2,0.01,1.5,x"]
    service.on("GET /v1/runs/run_1/records", ok(pages[1]))
    assert "r-2" in unlearn("runs", "records", "run_1").stdout


def test_all_steps_are_read_page_by_page(service: Fake, unlearn: Unlearn) -> None:
    service.on(
        "GET /v1/runs/run_1/steps",
        ok({"data": [{"step": 1, "kappa": 0.5}, {"step": 2, "kappa": None}], "has_more": True}),
        ok({"data": [{"step": 3, "kappa": 0.25}], "has_more": False}),
    )
    result = unlearn("runs", "steps", "run_1", "--csv")
    assert result.stdout.splitlines() == ["step,kappa", "1,0.5", "2,", "3,0.25"]
    assert [dict(request.url.params) for request in service.seen] == [{}, {"after": "2"}]


def test_text_from_the_service_is_never_taken_for_markup(service: Fake, unlearn: Unlearn) -> None:
    service.on("GET /v1/models/m", ok({"name": "m", "description": "[/bold] [red]x", "aliases": ["[b]"]}))
    result = unlearn("models", "show", "m")
    assert result.exit_code == 0, result.output
    assert "[/bold] [red]x" in result.stdout
    assert "[b]" in result.stdout


ASSESSED = {
    "id": "hrd_1",
    "status": "succeeded",
    "model": "m",
    "base_version": 1,
    "policy": "default",
    "record_count": 2,
    "error": None,
    "result": {
        "verdict": "hard",
        "advice": "Go on.",
        "layers": [{"name": "some.weight"}],
        "forecast": {"steps": {"low": 17, "expected": 29, "high": 53}},
    },
}


def test_a_quote_is_asked_for_and_followed_to_its_price(service: Fake, unlearn: Unlearn) -> None:
    queued = {**ASSESSED, "status": "queued", "result": None}
    service.on("POST /v1/hardness-assessments", ok(queued, 202))
    service.on("GET /v1/hardness-assessments/hrd_1", ok(queued), ok(ASSESSED))
    result = unlearn("assessments", "submit", "--model", "m", "--subject", "s", "--follow")
    assert result.exit_code == 0, result.output
    assert service.sent("POST /v1/hardness-assessments") == [{"model": "m", "subject_ids": ["s"]}]
    assert "hard" in result.stdout
    assert "predicted steps" in result.stdout
    assert "29" in result.stdout
    assert "some.weight" not in result.stdout
    assert json.loads(unlearn("assessments", "show", "hrd_1", "--json").stdout) == ASSESSED


def test_a_quote_that_failed_is_told_with_exit_code_1(service: Fake, unlearn: Unlearn) -> None:
    error = {"code": "bad_record", "message": "Row 3 cannot be used."}
    failed = {**ASSESSED, "status": "failed", "result": None, "error": error}
    service.on("GET /v1/hardness-assessments/hrd_1", ok(failed))
    result = unlearn("assessments", "follow", "hrd_1")
    assert result.exit_code == 1
    assert "hrd_1 is failed: Row 3 cannot be used." in result.stderr


def test_quotes_are_listed_with_their_verdicts(service: Fake, unlearn: Unlearn) -> None:
    page = {"data": [{**ASSESSED, "created_at": "2031-03-01T11:12:40.120Z"}], "next_cursor": None, "has_more": False}
    service.on("GET /v1/hardness-assessments", ok(page))
    result = unlearn("assessments", "list", "--model", "m")
    assert result.exit_code == 0, result.output
    assert "hard" in result.stdout


def test_a_plot_goes_to_a_file_or_to_standard_output(service: Fake, unlearn: Unlearn, tmp_path: Path) -> None:
    service.on("GET /v1/runs/run_1/plots/losses.svg", httpx.Response(200, text="<svg>κ</svg>"))
    service.on("GET /v1/hardness-assessments/hrd_1/plots/layers.svg", httpx.Response(200, text="<svg/>"))
    target = tmp_path / "losses.svg"
    assert unlearn("runs", "plot", "run_1", "losses", "--output", str(target)).exit_code == 0
    assert target.read_text(encoding="utf-8") == "<svg>κ</svg>"
    assert unlearn("assessments", "plot", "hrd_1").stdout == "<svg/>\n"
    missing = unlearn("runs", "plot", "run_1", "losses", "--output", str(tmp_path / "none" / "x.svg"))
    assert (missing.exit_code, "cannot write" in missing.output) == (1, True)
    unknown = unlearn("runs", "plot", "run_1", "loss")
    assert (unknown.exit_code, "losses" in unknown.output) == (1, True)


def test_certificates_are_listed_shown_in_each_form_and_proven(service: Fake, unlearn: Unlearn) -> None:
    row = {"id": "crt_1", "kind": "report", "verdict": "inconclusive", "model": "m", "run_id": "run_1"}
    claims = {"statement": "This report certifies nothing.", "verdict_reasons": ["Too few records."]}
    service.on("GET /v1/certificates", ok({"data": [row], "next_cursor": None, "has_more": False}))
    service.on("GET /v1/certificates/crt_1", ok({**row, "claims": claims, "jws": "a.b.c"}))
    service.on("GET /v1/certificates/crt_1/proof", ok({"record_id": "r-1"}))
    assert "crt_1" in unlearn("certificates", "list", "--run", "run_1").stdout
    assert service.seen[-1].url.params["run"] == "run_1"
    shown = unlearn("certificates", "get", "crt_1").stdout
    assert "certifies nothing" in shown
    assert "Too few records." in shown
    assert "a.b.c" not in shown
    assert json.loads(unlearn("certificates", "prove", "crt_1", "--record", "r-1").stdout) == {"record_id": "r-1"}
    service.on("GET /v1/certificates/crt_1", httpx.Response(200, text="a.b.c"))
    assert unlearn("certificates", "get", "crt_1", "--jws").stdout == "a.b.c\n"
    assert service.seen[-1].headers["Accept"] == "application/jose"


def test_keys_that_cannot_be_read_are_told_of(service: Fake, unlearn: Unlearn, tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a.b.c")
    for jwks, words in ((str(tmp_path / "none"), "cannot read"), (str(tmp_path / "c"), "is not JSON")):
        result = unlearn("certificates", "verify", str(tmp_path / "c"), "--jwks", jwks)
        assert result.exit_code == 1
        assert words in result.output


def test_extending_sends_the_reason(service: Fake, unlearn: Unlearn) -> None:
    service.on("POST /v1/deletion-requests/del_1/extend", ok(REQUEST))
    result = unlearn("requests", "extend", "del_1", "--reason", "three models")
    assert result.exit_code == 0, result.output
    assert service.sent("POST /v1/deletion-requests/del_1/extend") == [{"reason": "three models"}]


def test_the_compliance_report_as_table_and_file(service: Fake, unlearn: Unlearn, tmp_path: Path) -> None:
    times = {"complete": {"count": 1, "median_s": 172_800.0, "p95_s": 864_000.0}}
    outcomes = {"pending": 2, "in_progress": 1, "needs_review": 0, "completed": 7}
    group = {
        "requests": 10, "outcomes": outcomes, "on_time": 6, "late": 1, "times": times,
        "open_by_time_left": {"overdue": 1},
    }  # fmt: skip
    held = {"kind": "version", "name": "m", "number": 1, "state": "blocked", "blocked_by": ["alias:production"]}
    report = {
        "from": "a", "to": "b", "generated_at": "c", "total": group, "regulations": {}, "overdue": ["del_9"],
        "erasure": {"copies": [held], "datasets": [], "legal_holds": []},
    }  # fmt: skip
    service.on("GET /v1/reports/compliance", ok(report), httpx.Response(200, content=b"id\r\n"))
    shown = unlearn("reports", "compliance", "--from", "2027-01-01T00:00:00Z")
    assert shown.exit_code == 0, shown.output
    assert ["total", "10", "7", "6", "1", "3", "1", "2", "10"] in [line.split() for line in shown.output.splitlines()]
    assert "del_9" in shown.output
    assert "alias:production" in shown.output
    assert unlearn("reports", "compliance", "--csv", str(tmp_path / "r.csv")).exit_code == 0
    assert (tmp_path / "r.csv").read_bytes() == b"id\r\n"
    assert [dict(sent.url.params) for sent in service.seen] == [{"from": "2027-01-01T00:00:00Z"}, {"format": "csv"}]
