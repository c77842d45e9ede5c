"""``python -m benchmarks.golden DIR``: replay a folder and print what differs."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.golden import cases


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay a folder and print what differs; 0 if nothing does."""
    parser = argparse.ArgumentParser(description="Replay reference vectors through core.hamu.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", type=int, default=20, help="failed cases to describe")
    options = parser.parse_args(arguments)
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for case, run in cases(options.folder):
        try:
            wrong = run()
        except Exception as error:  # one case that cannot run is one failure, not the end of the replay
            wrong = [repr(error)]
        (failed if wrong else passed)[case["suite"]] += 1
        if wrong and sum(failed.values()) <= options.show:
            sys.stdout.write(f"{case['id']} [{' '.join(case['tags'])}]\n" + "".join(f"    {w}\n" for w in wrong[:6]))
    for suite in dict.fromkeys([*passed, *failed]):
        sys.stdout.write(f"{suite}: {passed[suite]} passed, {failed[suite]} failed\n")
    sys.stdout.write(f"{sum(passed.values())} passed, {sum(failed.values())} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
