"""What can go wrong with deletion requests."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.platform.errors import AlreadyExists, Conflict, DependencyDown, DomainError, InvalidInput, NotFound, Problem

_SHOWN = 20


class RequestNotFound(NotFound):
    """No such deletion request in the caller's workspace."""

    code = "deletion_request_not_found"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"There is no deletion request {request_id}.")


class EmptySelection(InvalidInput):
    """The request names no record, subject or identity."""

    code = "empty_selection"

    def __init__(self) -> None:
        super().__init__("Name at least one record id, subject id or identity.")


class TooManyIds(InvalidInput):
    """The request names more than one request may."""

    code = "too_many_ids"

    def __init__(self, given: int, limit: int) -> None:
        super().__init__(f"{given} ids are named; one request takes at most {limit}. Split it, or send a batch.")


class TooManyOpenRequests(DomainError):
    """The workspace has as many requests that have not ended as it may have."""

    code = "too_many_open_requests"
    retry_after_s = 3600

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} requests of this workspace have not ended, which is as many as it may have.")


class UnknownRecords(InvalidInput):
    """Some record ids are in no data set that was searched; the first 20 are pointed at."""

    code = "unknown_records"

    def __init__(self, positions: Sequence[int]) -> None:
        problems = [
            Problem(f"/record_ids/{position}", "unknown_record", "No such record id in the data set.")
            for position in positions[:_SHOWN]
        ]
        super().__init__(f"{len(positions)} of the record ids are unknown.", problems)


class WrongDataset(InvalidInput):
    """The named data set is not the one that the named model was trained on."""

    code = "wrong_dataset"

    def __init__(self) -> None:
        detail = "The model was not trained on this data set."
        super().__init__(detail, [Problem("/dataset", "wrong_dataset", detail)])


class NoVersion(InvalidInput):
    """The named model has no version yet, so there is nothing to unlearn from."""

    code = "no_version"

    def __init__(self) -> None:
        detail = "The model has no version yet: register its weights first."
        super().__init__(detail, [Problem("/model", "no_version", detail)])


class DatasetIndexing(DependencyDown):
    """A data set that the request is about is still being indexed: its records cannot be looked up completely."""

    code = "dataset_indexing"

    def __init__(self) -> None:
        super().__init__("A data set is still being indexed; try again shortly.")


class DatasetUnusable(InvalidInput):
    """The data set's index could not be built, so it has no records to delete."""

    code = "dataset_failed"

    def __init__(self) -> None:
        detail = "The data set could not be indexed: register it again."
        super().__init__(detail, [Problem("/dataset", "dataset_failed", detail)])


class ExternalIdTaken(AlreadyExists):
    """Another request of the workspace has this external id."""

    code = "external_id_taken"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"Deletion request {request_id} already has this external_id.")


class UnknownRegulation(InvalidInput):
    """The regulation is neither built in nor in the policy that applies."""

    code = "unknown_regulation"

    def __init__(self, known: Iterable[str]) -> None:
        detail = f"There is no such regulation; {', '.join(sorted(known))} are known."
        super().__init__(detail, [Problem("/regulation", "unknown_regulation", detail)])


class ReceivedInFuture(InvalidInput):
    """``received_at`` has not come yet."""

    code = "received_in_future"

    def __init__(self) -> None:
        detail = "A request cannot have been received in the future."
        super().__init__(detail, [Problem("/received_at", "received_in_future", detail)])


class AlreadyExtended(Conflict):
    """The deadline has been extended before, and that can be done once."""

    code = "already_extended"

    def __init__(self) -> None:
        super().__init__("The deadline has been extended already; it can be extended once.")


class DeadlineOver(Conflict):
    """The deadline is over, and an extension must be announced before."""

    code = "deadline_over"

    def __init__(self) -> None:
        super().__init__("The deadline is over; it can only be extended before.")


class NotExtendable(Conflict):
    """No regulation applies to the request, or it allows no extension."""

    code = "not_extendable"

    def __init__(self) -> None:
        super().__init__("No regulation that allows an extension applies to this request.")


class DeletionFailed(InvalidInput):
    """The deletion request has failed, and the caller wants that as an error."""

    code = "deletion_request_failed"

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("message", "The deletion request has failed.")))
