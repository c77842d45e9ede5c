"""What can go wrong with data sets."""

from core.platform.errors import AlreadyExists, Conflict, InvalidInput, NotFound


class DatasetNotFound(NotFound):
    """No data set of this name in the caller's workspace."""

    code = "dataset_not_found"


class RecordNotFound(NotFound):
    """The data set has no record of this id."""

    code = "record_not_found"


class DatasetExists(AlreadyExists):
    """The workspace has a data set of this name."""

    code = "dataset_exists"


class DatasetNotReady(Conflict):
    """The data set is still being indexed, or its indexing failed."""

    code = "dataset_not_ready"


class InvalidColumns(InvalidInput):
    """The column map does not fit the task."""

    code = "invalid_columns"


class InvalidDataset(InvalidInput):
    """The files are not what was declared; ``problems`` name file, row and column, never content."""

    code = "invalid_dataset"
