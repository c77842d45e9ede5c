"""A picture of each shape, in the look of the plots of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.shapes import fronts, gain, kappa, stopping
from core.plots.drawing import CONTROL, FORGET, GOAL, PENS, RETAIN, as_svg, figure_of, legend, line, sheet


def kappa_svg(name: str, fits: Mapping[str, Sequence[kappa.Point]]) -> str:
    """κ against ρ, a panel a model: the draws, and the mean over them."""
    panels = sheet(
        f"{name}: hardness against the share of retain-like records", len(fits), height=1.0 + 2.2 * len(fits)
    )
    for axes, (fit, points) in zip(panels, fits.items(), strict=True):
        means = kappa.mean_by_rho(points, "kappa")
        axes.plot([p.rho for p in points], [p.kappa for p in points], "x", color="0.6", markersize=4, label="a draw")
        line(axes, kappa.RHOS, means, FORGET, "mean of the draws")
        axes.set_title(f"{fit}: Pearson {kappa.pearson(kappa.RHOS, means):.3f}")
        axes.set_ylabel("κ (clipped)")
        legend(axes)
    panels[-1].set_xlabel("mixing ratio ρ")
    return as_svg(figure_of(panels[0]))


def gain_svg(name: str, points: Sequence[gain.Point], fit: gain.Line) -> str:
    """Realised gain against Q/η beside what was asked for."""
    title = f"{name}: forget gain against the quota, slope {fit.slope / fit.expected:.3f} T·η, R² {fit.r_squared:.4f}"
    (axes,) = sheet(title)
    quotas = [point.quota for point in points]
    line(axes, quotas, [point.asked for point in points], GOAL, "T·Q, asked for", linewidth=1.8)
    line(axes, quotas, [point.promised for point in points], CONTROL, "promised, f·Δ")
    line(axes, quotas, [point.realised for point in points], FORGET, "realised", linestyle="none")
    axes.set_xlabel("Q/η")
    axes.set_ylabel("forget gain [nats]")
    legend(axes)
    return as_svg(figure_of(axes))


def stopping_svg(name: str, path: stopping.Path) -> str:
    """Retain loss and margin along a run that does not stop."""
    title = f"{name}: the stop rule and the turn of the retain loss"
    losses, margins = sheet(title, 2, height=4.8)
    end = 3 * max(path.turn, path.stop or 0, 5)
    steps = range(min(end, len(path.retain)))
    line(losses, steps, path.retain[: len(steps)], RETAIN, "retain loss")
    losses.set_ylabel("mean loss [nats]")
    line(margins, steps, path.margin[: len(steps)], FORGET, "C - Q/η")
    margins.axhline(0, color="black", linewidth=0.8)
    margins.set_ylabel("margin")
    margins.set_xlabel(f"step (first {len(steps)} of {len(path.retain)})")
    for axes in (losses, margins):
        axes.axvline(path.turn, color="0.35", linestyle=":", label=f"retain loss least, step {path.turn}")
        if path.stop is not None:
            axes.axvline(path.stop, color="black", linestyle="--", label=f"rule stops, step {path.stop}")
        legend(axes)
    return as_svg(figure_of(losses))


def fronts_svg(name: str, points: Mapping[float, Sequence[fronts.Point]], *, cap: float) -> str:
    """The methods' fronts, a panel a mixing ratio: to the right and low is good."""
    title = f"{name}: retain loss paid for forget loss gained"
    panels = sheet(title, len(points), height=1.0 + 3.2 * len(points))
    for axes, (rho, found) in zip(panels, points.items(), strict=True):
        for method, pen in zip(fronts.METHODS, PENS, strict=True):
            capped = [replace(p, gain=min(p.gain, cap)) for p in found if p.method == method]
            best = [p for p in fronts.front(capped) if p.cost < fronts.WORST_RISE]
            width = 2.2 if method.startswith("hamu") else 1.0
            line(axes, [p.gain for p in best], [p.cost for p in best], pen, method, linewidth=width)
        axes.set_title(f"ρ = {rho:g}")
        axes.set_xlim(-0.1 * cap, 1.04 * cap)
        axes.set_ylim(-0.5 * fronts.WORST_RISE, fronts.WORST_RISE)
        axes.set_ylabel("retain loss, rise [nats]")
    legend(panels[0])
    panels[-1].set_xlabel(f"forget loss, rise [nats], what is beyond {cap:g} counted as {cap:g}")
    return as_svg(figure_of(panels[0]))
