"""Stands in for the GPU process: ``python scripted_child.py SCENARIO GATE FOLDER``.

It behaves as the scenario says, and waits for the file ``GATE`` where it is to last as long as a test wants.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from core.unlearning.job import (
    OUTCOME_FILE,
    PUT_AWAY_FILE,
    Failure,
    Outcome,
    Progress,
    StoredFile,
    progress_line,
    read_job,
    write_json,
)

scenario, gate, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
told_to_stop = threading.Event()


def write(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def say(progress: Progress) -> None:
    write(progress_line(progress))


def step(number: int) -> None:
    say(Progress("unlearning", number, 3, 0.1, row={"step": number, "kappa": 0.1 * number}))


def wait_for_gate() -> None:
    while not gate.exists() and not told_to_stop.is_set():
        time.sleep(0.01)


def succeed() -> None:
    job = read_job(folder / "job.json")
    digest = hashlib.sha256(job.publish_uri.encode()).hexdigest()
    files = (StoredFile("model.safetensors", f"{job.publish_uri}model.safetensors", 1, digest),)
    gates = ({"name": "retain_accuracy_drop", "limit": 0.02, "value": 0.0, "passed": True},)
    write_json(
        folder / OUTCOME_FILE,
        Outcome(
            stop_reason="target_reached",
            staged=files,
            gates=gates,
            verdict="passed",
            metrics={"after": {}},
            forget_records=1,
            retain_records=5,
        ),
    )


def end_with_supervisor() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


threading.Thread(target=end_with_supervisor, daemon=True).start()
if scenario == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: told_to_stop.set())
(gate.parent / "child.pid").write_text(str(os.getpid()))
if scenario == "success":
    say(Progress("preparing"))
    write("a library says hello")
    write(json.dumps({"phase": "daydreaming"}))
    write(json.dumps([1, 2]))
    os.write(1, b"\xff\xfe not text \x00\n")
    say(Progress("assessing", hardness={"verdict": "hard"}))
    for number in (1, 2, 3):
        step(number)
    say(Progress("publishing"))
    succeed()
elif scenario == "assess":
    say(Progress("preparing"))
    say(Progress("assessing", hardness={"verdict": "hard"}))
    write_json(
        folder / OUTCOME_FILE,
        Outcome(hardness={"verdict": "hard"}, metrics={"before": {}}, forget_records=1, retain_records=5),
    )
elif scenario == "crash":
    step(1)
    sys.exit(3)
elif scenario == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif scenario == "refused":
    write_json(folder / OUTCOME_FILE, Outcome(failure=Failure("bad_record", "Row 3 cannot be used.", retryable=False)))
elif scenario == "full":
    failure = Failure("disk_full", "The worker's disk has no room left.", retryable=True)
    write_json(folder / OUTCOME_FILE, Outcome(failure=failure))
elif scenario == "wordless":
    (folder / OUTCOME_FILE).write_text("{not json")
elif scenario == "gated":  # silent until the gate opens, then a success
    wait_for_gate()
    if told_to_stop.is_set():
        (gate.parent / "told").write_text("put away" if (folder / PUT_AWAY_FILE).exists() else "stop")
        write_json(folder / OUTCOME_FILE, Outcome(stop_reason="cancelled"))
    else:
        succeed()
elif scenario == "chatty":  # a step whenever it can, until it is told to stop
    number = 0
    while not gate.exists() and not told_to_stop.is_set():
        number += 1
        step(number)
        time.sleep(0.005)
    succeed()
elif scenario == "stubborn":
    while True:
        time.sleep(0.01)
