"""What can go wrong with models and their versions."""

from core.platform.errors import AlreadyExists, Conflict, InvalidInput, NotFound


class ModelNotFound(NotFound):
    """No model of this name in the caller's workspace."""

    code = "model_not_found"


class VersionNotFound(NotFound):
    """The model has no such version or alias."""

    code = "version_not_found"


class ModelExists(AlreadyExists):
    """The workspace has a model of this name."""

    code = "model_exists"


class StaleBase(Conflict):
    """Another version was published in the meantime; the new weights descend from one that is no longer the latest."""

    code = "stale_base"


class NothingChanged(Conflict):
    """The weights of a run are those that it started from, so they still hold what it was to unlearn."""

    code = "nothing_changed"


class HoldsUnlearnedData(Conflict):
    """The version does not descend from one in which data was unlearned, so it still holds that data."""

    code = "holds_unlearned_data"


class VersionPurged(Conflict):
    """The version's files have been deleted."""

    code = "version_purged"


class VersionInUse(Conflict):
    """An alias points at the version or a run works from it, so it cannot be purged."""

    code = "version_in_use"


class InvalidModelFolder(InvalidInput):
    """The folder is not a model that this service can work with; ``problems`` name the files."""

    code = "invalid_model_folder"


class TaskMismatch(InvalidInput):
    """The weights are for another task than the model's."""

    code = "task_mismatch"


class UnsafeWeights(InvalidInput):
    """The folder holds something that could run code when loaded."""

    code = "unsafe_weights"


class TruncatedWeights(InvalidInput):
    """A weights file ends before its header says."""

    code = "truncated_weights"
