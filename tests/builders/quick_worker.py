"""``python -m tests.builders.quick_worker``: the worker, with ``quick_child`` in the place of the GPU process."""

import sys

from worker.__main__ import main

if __name__ == "__main__":
    main(command=(sys.executable, "-m", "tests.builders.quick_child"))
