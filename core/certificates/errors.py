"""What can go wrong with certificates."""

from core.platform.errors import NotFound


class CertificateNotFound(NotFound):
    """No such certificate or report in the caller's workspace."""

    code = "certificate_not_found"

    def __init__(self, certificate_id: str) -> None:
        super().__init__(f"There is no certificate {certificate_id}.")


class RecordNotCovered(NotFound):
    """The certificate does not speak of this record: it was not among those that the run was to forget."""

    code = "record_not_covered"
