"""What can go wrong with hardness assessments."""

from core.platform.errors import InvalidInput, NotFound


class AssessmentNotFound(NotFound):
    """No such hardness assessment in the caller's workspace."""

    code = "hardness_assessment_not_found"

    def __init__(self, assessment_id: str) -> None:
        super().__init__(f"There is no hardness assessment {assessment_id}.")


class NothingToAssess(InvalidInput):
    """Nothing that is named is an active training record of the model."""

    code = "nothing_to_assess"

    def __init__(self) -> None:
        super().__init__(
            "Nothing that is named is an active training record of the model: unknown people, records that are held "
            "out, and records that are erased or waiting to be cannot be assessed."
        )
