"""What a certificate or report says, field by field. The verifier takes nothing that does not have this shape."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

FORMAT: Final = "unlearning-certificate/1"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Time = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Kind = Literal["certificate", "report"]
Word = Literal["passed", "passed_with_warnings", "failed", "inconclusive"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class File(_Part):
    """A file of a model version."""

    path: Text
    size: Count
    sha256: Digest


class Version(_Part):
    """Weights. ``digest``: SHA-256 over the sorted (path, SHA-256) pairs of ``files``."""

    version: Annotated[int, Field(ge=1)]
    digest: Digest
    files: Annotated[list[File], Field(min_length=1)]


class ModelName(_Part):
    """The line of weights."""

    name: Text
    task: Literal["image-classification", "causal-lm"]


class Selection(_Part):
    """Which rows were forgotten, retained and held out: a digest of each set, and when they were chosen."""

    at: Time
    forget: Digest
    retain: Digest
    holdout: Digest


class Dataset(_Part):
    """The training records. ``fingerprint``: of the files and how they are read.

    ``before`` and ``after``: fingerprint and selection together, of what the base version and the published version
    were trained on, as far as the service knows; null when the run chose no records.
    """

    name: Text
    fingerprint: Digest
    selection: Selection | None
    before: Digest | None
    after: Digest | None


class DeletionRequest(_Part):
    """A request that the run answered."""

    id: Text
    received_at: Time


class Records(_Part):
    """What was to be forgotten: how many records, and a Merkle tree over their salted digests (``merkle``).

    ``digests`` are the tree's leaves, left out (null) when they are many. ``root`` is null when nothing was chosen.
    """

    count: Count
    retained: Count
    root: Digest | None
    digests: list[Digest] | None


class UnmetTarget(_Part):
    """A target of the policy that the run did not reach."""

    name: Text
    value: float | None
    limit: float
    reason: Text


class RunPart(_Part):
    """How the run went."""

    status: Literal["succeeded", "failed"]
    stop_reason: str | None
    unmet_targets: list[UnmetTarget]
    attempt: Count
    created_at: Time
    started_at: Time | None
    finished_at: Time


class Policy(_Part):
    """The policy as it was when the run was planned, without the parameters, which stand by themselves."""

    name: Text
    settings: dict[str, Any]


class Ledger(_Part):
    """The steps: how many, the digest of their canonical rows, and what the accepted ones promised and did."""

    steps: Count
    sha256: Digest
    promised_forget_gain: float
    realised_forget_gain: float


class Gate(_Part):
    """A judged measurement with its 95 % interval and margin; null numbers could not be measured."""

    name: Text
    group: Text
    value: float | None
    low: float | None
    high: float | None
    at_least: float | None
    at_most: float | None
    limit: float | None
    status: Literal["passed", "failed", "undecided"]
    severity: Literal["required", "important", "advisory"]
    passed: bool
    no_op: float | None
    no_op_status: Literal["passed", "failed", "undecided"] | None


class Approval(_Part):
    """What a person decided about the run."""

    request_id: Text
    decision: Literal["approved", "rejected"]
    actor: Text
    comment: str
    at: Time


class Failure(_Part):
    """Why there is no result."""

    code: Text
    message: Text


class Code(_Part):
    """The code that carried the run out."""

    version: Text
    commit: str | None


class Claims(_Part):
    """Everything that is signed. ``iss``, ``sub``, ``jti`` and ``iat`` as in RFC 7519: service, run, own id, when."""

    format: Literal["unlearning-certificate/1"]
    kind: Kind
    iss: Text
    sub: Text
    jti: Text
    iat: Count
    statement: Text
    not_proven: Annotated[list[Text], Field(min_length=1)]
    workspace_id: Text
    model: ModelName
    base: Version
    published: Version | None
    dataset: Dataset
    deletion_requests: Annotated[list[DeletionRequest], Field(min_length=1)]
    records: Records
    run: RunPart
    method: Text
    seed: int
    parameters: dict[str, Any]
    policy: Policy
    hardness: dict[str, Any] | None
    ledger: Ledger
    metrics: dict[str, Any] | None
    gates: list[Gate]
    verdict: Word | None
    verdict_reasons: list[Text]
    approvals: list[Approval]
    error: Failure | None
    code: Code | None
    worker: dict[str, Any] | None
    timings: dict[str, Any]
