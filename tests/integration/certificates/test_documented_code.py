"""The code in docs/certificates.md works as it stands there, with a JOSE library that the service does not use."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from core.certificates import keys, service
from core.platform.clock import utc_now
from core.platform.database import transaction
from tests.builders.estate import KEYRING
from tests.builders.evidence import ISSUER
from tests.integration.certificates.conftest import Ended

pytestmark = pytest.mark.integration

PAGE = Path(__file__).resolve().parents[3] / "docs" / "certificates.md"


def documented() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)  # noqa: S102
    return names


def test_the_examples_verify_a_certificate_and_a_record(ended: Ended) -> None:
    run_id = ended.run("r-0", "r-1", "r-3")
    with transaction(ended.engine) as tx:
        made = service.issue(tx, run_id=run_id, issuer=ISSUER, keyring=KEYRING, at=utc_now())
        assert made is not None
        jwks = json.loads(json.dumps(keys.jwks(tx)))
        shown = [
            service.prove(
                tx, workspace_id=made.workspace_id, certificate_id=made.id, record_id=record_id, keyring=KEYRING
            )
            for record_id in ("r-0", "r-1", "r-3")
        ]
    code = documented()
    claims = code["claims_of"](made.jws, jwks, ISSUER)
    assert (claims["sub"], claims["kind"]) == (run_id, "certificate")
    with pytest.raises(Exception, match=r"(?i)signature"):
        code["claims_of"](made.jws[:-8] + "AAAAAAAA", jwks, ISSUER)
    with pytest.raises(Exception, match=r"(?i)issuer"):
        code["claims_of"](made.jws, jwks, "https://other.example")
    for proof in shown:
        fields = {name: getattr(proof, name) for name in proof.__slots__}
        assert code["is_covered"](fields, claims["records"]["root"])
        assert not code["is_covered"]({**fields, "record_id": "r-2"}, claims["records"]["root"])
