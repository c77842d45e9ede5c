"""What can go wrong with runs."""

from core.platform.errors import NotFound


class RunNotFound(NotFound):
    """No such run in the caller's workspace."""

    code = "run_not_found"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {run_id}.")
