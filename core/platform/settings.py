"""All configuration, read from the environment once at start and passed in from there.

Names are ``UNLEARN_`` + section + ``__`` + field, for example ``UNLEARN_DATABASE__URL``. What is left unset falls to
the embedded default (``core.platform.embedded``): Postgres from a wheel, a file broker and a directory store.
"""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_PLACEHOLDERS = {"changeme", "change-me", "secret", "password", "unlearn"}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(_Section):
    """Postgres."""

    url: SecretStr | None = Field(default=None, description="postgresql://user:password@host/name; unset: embedded")
    pool_size: int = Field(default=10, ge=1)


class BrokerSettings(_Section):
    """Celery's broker."""

    url: SecretStr | None = Field(default=None, description="redis://host:6379/0; unset: a directory on this machine")


class StoreSettings(_Section):
    """Object store for uploads and weights."""

    url: str | None = Field(default=None, description="s3://bucket/prefix or file:///dir; unset: embedded")
    endpoint_url: str | None = Field(default=None, description="S3 endpoint; unset: AWS")
    public_endpoint_url: str | None = Field(default=None, description="S3 endpoint as clients reach it")
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    checksum: Literal["when_supported", "when_required"] = "when_required"
    presign_ttl_s: int = Field(default=900, ge=1)
    part_size_bytes: int = Field(default=64 * 1024 * 1024, ge=5 * 1024 * 1024, description="larger files come in parts")


class ApiSettings(_Section):
    """The web process."""

    host: str = "127.0.0.1"
    port: int = 8000
    public_url: HttpUrl | None = Field(default=None, description="address callers use; unset: http://host:port")
    body_limit_bytes: int = 4 * 1024 * 1024
    max_ids_per_request: int = 10_000
    max_open_requests: int = Field(default=50_000, ge=1, description="of a workspace, that have not ended")
    require_idempotency_key: bool = Field(default=False, description="refuse creating POSTs without Idempotency-Key")
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="addresses or networks whose X-Forwarded-For is believed"
    )


class LimitSettings(_Section):
    """How many calls a minute one key may make; see ``docs/conventions.md``."""

    url: SecretStr | None = Field(
        default=None, description="redis://host:6379/0; unset: the broker's Redis, else memory of each web process"
    )
    reads: int = Field(default=6000, ge=0, description="GET a minute and key; 0: no limit, as in all of these")
    writes: int = Field(default=3000, ge=0, description="everything else a minute and key")
    polls: int = Field(default=12_000, ge=0, description="reads of one object's state a minute and key")
    opendsr: int = Field(default=3000, ge=0, description="OpenDSR calls a minute and key; at least 600")
    failures: int = Field(default=120, ge=0, description="credentials that are not valid, a minute and address")

    @model_validator(mode="after")
    def _enough_for_opendsr(self) -> Self:
        if 0 < self.opendsr < 600:
            raise ValueError("UNLEARN_LIMITS__OPENDSR must be at least 600, as the standard asks, or 0 for no limit")
        return self


class SourceSettings(_Section):
    """Where ``source_uri`` may point. ``{workspace}`` in a root stands for the caller's workspace name."""

    roots: tuple[str, ...] = Field(default=(), description='for example ["s3://training/{workspace}/"]')


class DatasetSettings(_Section):
    """Indexing of data sets."""

    index_inline_bytes: int = Field(default=64 * 1024 * 1024, description="larger data sets index in the background")
    max_rows: int = 50_000_000


class UploadSettings(_Section):
    """Uploads."""

    ttl_s: int = 24 * 3600
    max_bytes: int = 200 * 1024**3
    max_files: int = 1000


class WorkerSettings(_Section):
    """GPU workers and the runs they hold."""

    device: str = "auto"
    threads: int | None = Field(default=None, ge=1, description="CPU threads of one run; unset: torch's default")
    processes: int | None = Field(
        default=None, ge=1, description="a run with devices `all` is divided among so many; unset: one a GPU"
    )
    memory_bytes: int | None = Field(
        default=None,
        ge=1,
        description="a model that needs more is refused before it is loaded; unset: what the device has",
    )
    lease_ttl_s: float = Field(default=60.0, gt=0)
    heartbeat_s: float = Field(default=10.0, gt=0)
    poll_s: float = Field(default=5.0, gt=0, description="workers look for work by themselves this often")
    run_deadline_s: float = Field(default=24 * 3600.0, gt=0)
    cancel_grace_s: float = Field(default=30.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    checkpoint_every_s: float = Field(default=60.0, ge=0, description="a run is put away this often; 0: not by time")
    checkpoint_every_steps: int = Field(default=0, ge=0, description="and after this many steps; 0: not by steps")
    metrics_port: int | None = Field(default=None, ge=1, le=65535, description="Prometheus numbers; unset: none")
    work_dir: Path | None = Field(default=None, description="private scratch space; unset: the temporary folder")

    @model_validator(mode="after")
    def _beats_before_expiry(self) -> Self:
        if self.heartbeat_s * 2 > self.lease_ttl_s:
            raise ValueError("UNLEARN_WORKER__HEARTBEAT_S must be at most half of UNLEARN_WORKER__LEASE_TTL_S")
        return self


class LoopSettings(_Section):
    """Background loops."""

    poll_s: float = Field(default=0.5, gt=0)
    sweep_s: float = Field(default=300.0, gt=0, description="leftovers and superseded copies are looked for this often")
    erase_s: float = Field(default=30.0, gt=0, description="data sets with erased records are looked for this often")
    orphan_age_s: float = Field(default=24 * 3600.0, gt=0, description="staged files without a row live this long")
    metrics_port: int | None = Field(default=None, ge=1, le=65535, description="Prometheus numbers; unset: none")


class WebhookSettings(_Section):
    """Outgoing webhooks."""

    schedule_s: tuple[float, ...] = (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    jitter: float = Field(default=0.2, ge=0, lt=1)
    timeout_s: float = 15.0
    connect_timeout_s: float = 5.0
    allow_http: bool = Field(default=False, description="tests only")
    allow_networks: tuple[str, ...] = Field(default=(), description="private networks that may be called")
    egress_addresses: tuple[str, ...] = Field(default=(), description="addresses it calls from, only published")


class TracingSettings(_Section):
    """OpenTelemetry."""

    endpoint: HttpUrl | None = Field(default=None, description="http://collector:4318/v1/traces; unset: no traces")
    share: float = Field(default=1.0, ge=0, le=1, description="of requests that come without a trace of their own")


class OpenDsrSettings(_Section):
    """The OpenDSR processor."""

    processor_domain: str | None = Field(default=None, description="host requests come in on; unset: public_url's")
    certificate_file: Path | None = Field(default=None, description="PEM, leaf first; unset: no OpenDSR")
    private_key_file: Path | None = Field(default=None, description="PEM of the RSA key, 2048 bits or more")
    self_signed: bool | None = Field(default=None, description="make a pair for development; unset: if embedded")
    hold_s: float = Field(default=300.0, ge=2, description="how long a request stays pending and can be cancelled")
    max_hold_s: float = Field(default=7 * 24 * 3600.0, ge=2, description="the longest hold that a request may ask for")
    service_level_s: float = Field(default=3 * 24 * 3600.0, gt=0, description="promised time to completion")
    regulations: dict[str, int] = Field(default={}, description='terms in days of further laws, {"lgpd": 15}')

    @model_validator(mode="after")
    def _both_files(self) -> Self:
        if (self.certificate_file is None) != (self.private_key_file is None):
            raise ValueError("set both UNLEARN_OPENDSR__CERTIFICATE_FILE and …__PRIVATE_KEY_FILE, or neither of them")
        if self.hold_s > self.max_hold_s:
            raise ValueError("UNLEARN_OPENDSR__HOLD_S must be at most UNLEARN_OPENDSR__MAX_HOLD_S")
        return self


class Settings(BaseSettings):
    """The whole configuration; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="UNLEARN_", env_nested_delimiter="__", frozen=True, extra="ignore", env_file=None
    )

    data_dir: Path = Field(default=Path(".data"), description="home of everything embedded")
    secret: SecretStr | None = Field(default=None, description="32 or more random characters; embedded: generated")
    previous_secrets: tuple[SecretStr, ...] = Field(default=(), description="further secrets that still open things")
    commit: str | None = Field(default=None, description="git commit of this build, named in certificates")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics_host: str = Field(default="127.0.0.1", description="address of the metrics of loops and workers")
    log_json: bool | None = Field(default=None, description="unset: JSON unless on a terminal")
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    store: StoreSettings = StoreSettings()
    api: ApiSettings = ApiSettings()
    limits: LimitSettings = LimitSettings()
    sources: SourceSettings = SourceSettings()
    datasets: DatasetSettings = DatasetSettings()
    uploads: UploadSettings = UploadSettings()
    worker: WorkerSettings = WorkerSettings()
    loops: LoopSettings = LoopSettings()
    webhooks: WebhookSettings = WebhookSettings()
    tracing: TracingSettings = TracingSettings()
    opendsr: OpenDsrSettings = OpenDsrSettings()

    @property
    def public_url(self) -> str:
        """Base address callers use, without a trailing slash."""
        return str(self.api.public_url or f"http://{self.api.host}:{self.api.port}").rstrip("/")

    @property
    def processor_domain(self) -> str:
        """The host that OpenDSR requests come in on, without scheme and port."""
        return self.opendsr.processor_domain or urlsplit(self.public_url).hostname or self.api.host

    @model_validator(mode="after")
    def _real_secret(self) -> Self:
        if self.secret is not None and not _is_real(self.secret):
            raise ValueError("UNLEARN_SECRET must be at least 32 random characters")
        if not all(_is_real(secret) for secret in self.previous_secrets):
            raise ValueError("UNLEARN_PREVIOUS_SECRETS must each be at least 32 random characters")
        return self


def _is_real(secret: SecretStr) -> bool:
    value = secret.get_secret_value()
    return len(value) >= 32 and value.lower() not in _PLACEHOLDERS
