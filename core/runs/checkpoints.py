"""The key of a run's checkpoints: random, kept sealed in the run's row, and gone with the end of the run.

Checkpoints hold what is to be forgotten. Without the key nobody can read them, wherever copies of them lie.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from core.platform.resealing import Sealed
from core.platform.sealing import KEY_BYTES
from core.platform.secrets import Keyring
from core.runs.lifecycle import Mode
from core.runs.tables import Run
from core.unlearning.job import Checkpointing

FOLDER = "checkpoints/"
PURPOSE = "checkpoint"
SEALED = (Sealed(Run, Run.checkpoint_key, PURPOSE),)
"""What this slice keeps sealed."""


@dataclass(frozen=True, slots=True)
class CheckpointRule:
    """How often runs are put away, 0 being never, and what their keys are sealed with."""

    keyring: Keyring
    every_s: float
    every_steps: int

    def sealed_key(self, run: Run) -> bytes | None:
        """The run's key as its row is to hold it: the one that it has, or a new one. None for a run without any."""
        if run.mode == Mode.ASSESS or not (self.every_s or self.every_steps):
            return None
        if run.checkpoint_key is not None and self._opened(run.checkpoint_key) is not None:
            return run.checkpoint_key
        return self.keyring.seal(PURPOSE, os.urandom(KEY_BYTES))

    def checkpointing(self, run_id: str, sealed_key: bytes | None, uri: Callable[[str], str]) -> Checkpointing | None:
        """What the child is told; ``uri`` gives the object store's URI of a key."""
        key = self._opened(sealed_key) if sealed_key is not None else None
        if key is None:
            return None
        return Checkpointing(uri(f"{FOLDER}{run_id}/"), key.hex(), self.every_s, self.every_steps)

    def _opened(self, sealed: bytes) -> bytes | None:
        """None when it was sealed with another secret; the run then starts over under a new key."""
        try:
            return self.keyring.open(PURPOSE, sealed)
        except ValueError:
            return None
