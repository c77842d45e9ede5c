"""What the paper's figures claim, measured on small data: a table on the screen, pictures and numbers in a folder.

    OMP_NUM_THREADS=1 python -m benchmarks.paper_shapes --out DIR [--data DIR] [--quick]
        [--problems cifar10 tofu digits] [--shapes kappa gain stopping fronts]

1 ``kappa``     κ against the share ρ of retain-like records in the forget set, on models that have just begun, that
                are still learning, and that know their data by heart
2 ``gain``      realised forget gain against Q/η
3 ``stopping``  where the stop rule fires and where the retain loss turns
4 ``fronts``    retain loss paid for forget loss gained: HAMU-Q, HAMU-U and the ten peers at ρ = 0, 0.5, 0.75

``--data`` names a folder with ``cifar10/train.parquet`` (columns ``image``: encoded bytes, ``label``) and
``tofu/full.parquet`` (``question``, ``answer``, ``subject_id``). Without it scikit-learn's digits are used. Models are
trained on the spot and kept in ``--out/models``; shapes that were measured before are measured anew.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import hardware
from benchmarks.shapes import fronts, gain, kappa, pictures, problems, stopping
from benchmarks.shapes.problems import Problem
from benchmarks.shapes.workbench import trained

RHOS = (0.0, 0.5, 0.75)
CAP = 2.0
"""Nats of forget loss: gains beyond it do not count."""


def run_kappa(problem: Problem, out: Path) -> dict[str, Any]:
    """Shape 1."""
    size = problem.size
    epochs = {size.begun: "just begun", size.under: "still learning", size.over: "known by heart"}
    fits = {fit: kappa.kappa_against_rho(problem, trained(problem, n, out / "models")) for n, fit in epochs.items()}
    _write(out, f"{problem.name}-kappa.svg", pictures.kappa_svg(problem.name, fits))
    return {
        fit: {
            "pearson": kappa.pearson(kappa.RHOS, kappa.mean_by_rho(points, "kappa")),
            "pearson_unclipped": kappa.pearson(kappa.RHOS, kappa.mean_by_rho(points, "unclipped")),
            "kappa": kappa.mean_by_rho(points, "kappa"),
            "retain_loss": points[0].retain_loss,
        }
        for fit, points in fits.items()
    }


def run_gain(problem: Problem, out: Path) -> dict[str, Any]:
    """Shape 2."""
    points = gain.gain_against_quota(problem, trained(problem, problem.size.under, out / "models"))
    fit = gain.fitted(points, steps=problem.size.gain_steps, rate=problem.size.gain_rate)
    _write(out, f"{problem.name}-gain.svg", pictures.gain_svg(problem.name, points, fit))
    return asdict(fit) | {"slope_over_expected": fit.slope / fit.expected, "tried": len(points)}


def run_stopping(problem: Problem, out: Path) -> dict[str, Any]:
    """Shape 3."""
    path = stopping.path(problem, trained(problem, problem.size.under, out / "models"))
    _write(out, f"{problem.name}-stopping.svg", pictures.stopping_svg(problem.name, path))
    return {"stop": path.stop, "turn": path.turn, "steps": len(path.retain), "distance": path.distance}


def run_fronts(problem: Problem, out: Path) -> dict[str, Any]:
    """Shape 4."""
    model, points = trained(problem, problem.size.under, out / "models"), {}
    for rho in RHOS:
        walks = [fronts.walks(problem, model, name, rho, epochs=problem.size.under) for name in fronts.METHODS]
        points[rho] = [point for walk in walks for point in walk]
    _write(out, f"{problem.name}-fronts.svg", pictures.fronts_svg(problem.name, points, cap=CAP))
    return {
        f"rho {rho:g}": {
            name: round(fronts.area([point for point in found if point.method == name], cap=CAP), 3)
            for name in fronts.METHODS
        }
        for rho, found in points.items()
    }


SHAPES: Mapping[str, Callable[[Problem, Path], dict[str, Any]]] = {
    "kappa": run_kappa,
    "gain": run_gain,
    "stopping": run_stopping,
    "fronts": run_fronts,
}


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--problems", nargs="+", choices=("cifar10", "tofu", "digits"))
    parser.add_argument("--shapes", nargs="+", choices=tuple(SHAPES), default=list(SHAPES))
    parser.add_argument("--quick", action="store_true", help="fewer draws, epochs and steps")
    chosen = parser.parse_args()
    names = chosen.problems or (["cifar10", "tofu"] if chosen.data else ["digits"])
    if chosen.data is None and set(names) != {"digits"}:
        parser.error("cifar10 and tofu need --data")
    print(hardware(torch.device("cpu")))
    for name in names:
        problem = _problem(name, chosen.data, quick=chosen.quick)
        for shape in chosen.shapes:
            began = time.process_time()
            numbers = SHAPES[shape](problem, chosen.out) | {"cpu_seconds": round(time.process_time() - began, 1)}
            _write(chosen.out, f"{name}-{shape}.json", json.dumps(numbers, indent=2))
            print(f"{name} {shape}: {json.dumps(numbers)}", flush=True)


def _problem(name: str, data: Path | None, *, quick: bool) -> Problem:
    if data is None or name == "digits":
        problem = problems.digits()
    elif name == "cifar10":
        problem = problems.cifar(data, 400)
    else:
        problem = problems.tofu(data, 10)
    return replace(problem, size=_quick(problem.size)) if quick else problem


def _quick(size: problems.Size) -> problems.Size:
    return replace(
        size, over=size.over // 2, retain=size.retain // 2, draws=1, stop_steps=size.stop_steps // 2,
        front_steps=size.front_steps // 4,
    )  # fmt: skip


def _write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
