"""What the child may know: where the object store is and how to reach it, and nothing of database, broker or keys."""

import json
from collections.abc import Mapping

from pydantic import SecretStr

from core.platform.settings import Settings


def child_environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The inherited environment with our own variables replaced by those that the child needs; no network libraries."""
    kept = {name: value for name, value in inherited.items() if not name.startswith("UNLEARN_")}
    return {
        **kept,
        **_store(settings),
        "UNLEARN_SOURCES__ROOTS": json.dumps(settings.sources.roots),
        "UNLEARN_LOG_LEVEL": settings.log_level,
        **({"UNLEARN_COMMIT": settings.commit} if settings.commit else {}),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def _store(settings: Settings) -> dict[str, str]:
    values = {name: getattr(settings.store, name) for name in type(settings.store).model_fields}
    return {
        f"UNLEARN_STORE__{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
        if value is not None
    }
