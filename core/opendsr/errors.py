"""What can go wrong with data subject requests. No message repeats a value that the controller sent."""

from core.platform.errors import AlreadyExists, Conflict, DomainError, NotFound


class InvalidSubjectRequest(DomainError):
    """The body is not JSON, or a field of it is missing, mistyped or not supported; ``problems`` name each."""

    code = "invalid_subject_request"


class SubjectRequestNotFound(NotFound):
    """The caller has no data subject request of this id."""

    code = "subject_request_not_found"

    def __init__(self) -> None:
        super().__init__("There is no request of this subject_request_id.")


class CertificateNotFound(NotFound):
    """No certificate of this fingerprint has signed a receipt."""

    code = "opendsr_certificate_not_found"

    def __init__(self) -> None:
        super().__init__("No certificate of this fingerprint has been used.")


class SubjectRequestIdTaken(AlreadyExists):
    """The ``subject_request_id`` has been used before with another body."""

    code = "subject_request_id_taken"

    def __init__(self) -> None:
        super().__init__("This subject_request_id was used before with another body.")


class NotPending(Conflict):
    """Work on the request has begun or ended, so it cannot be cancelled any more."""

    code = "subject_request_not_pending"

    def __init__(self, status: str) -> None:
        super().__init__(f"The request is {status}; only a pending request can be cancelled.")


class NothingToRetry(Conflict):
    """None of the request's deletion requests has failed or been withdrawn."""

    code = "nothing_to_retry"

    def __init__(self) -> None:
        super().__init__("None of its deletion requests has failed; there is nothing to be tried again.")
