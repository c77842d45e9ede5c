"""What can go wrong with uploads and other sources of files."""

from core.platform.errors import Conflict, InvalidInput, NotFound


class UploadNotFound(NotFound):
    """No such upload in the caller's workspace."""

    code = "upload_not_found"


class UploadExpired(Conflict):
    """The upload was not completed, or not used, in time; its files are gone."""

    code = "upload_expired"


class UploadNotComplete(Conflict):
    """The upload must be completed before it can be used."""

    code = "upload_not_complete"


class UploadUsed(Conflict):
    """The upload has become part of a data set or a model version already."""

    code = "upload_used"


class UploadRejected(InvalidInput):
    """Files are missing or are not the ones announced; ``problems`` say which."""

    code = "upload_rejected"


class SourceNotAllowed(InvalidInput):
    """The source lies outside the places that are open to this workspace."""

    code = "source_not_allowed"


class SourceNotFound(InvalidInput):
    """There is nothing readable at the source."""

    code = "source_not_found"
