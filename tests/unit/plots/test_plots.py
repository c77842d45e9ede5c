"""What plots show, and what their SVG may not hold."""

import re
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from core.plots import PLOTS, Evidence, NothingToPlot, Plot, draw
from core.plots.inline import inline
from tests.builders.drawable import EVIDENCE, LAYERS, METRICS, PEER, ROWS


def figure(plot: Plot, evidence: Evidence = EVIDENCE) -> Figure:
    return import_module(f"core.plots.{plot}").figure(evidence)


def lines(axes: Axes) -> dict[str, list[float]]:
    return {str(line.get_label()): [float(y) for y in line.get_ydata()] for line in axes.lines}


@pytest.mark.parametrize("plot", PLOTS)
def test_a_drawing_runs_nothing_asks_for_nothing_and_says_what_is_wanted(plot: Plot) -> None:
    text = draw(plot, EVIDENCE)
    assert "<!DOCTYPE" not in text
    assert "@import" not in text
    root = ElementTree.fromstring(text)  # noqa: S314 (our own text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    titles = root.findall("{http://www.w3.org/2000/svg}title")
    assert [": " in (title.text or "") for title in titles] == [True]
    for element in root.iter():
        name = element.tag.rpartition("}")[2].lower()
        assert name not in {"script", "foreignobject", "iframe", "image", "a", "animate", "set", "link"}, name
        for key, value in element.attrib.items():
            attribute = key.rpartition("}")[2].lower()
            assert not attribute.startswith("on"), attribute
            assert attribute not in ("href", "src") or value.startswith("#"), value
            assert value.count("url(") == value.count("url(#"), value


def test_drawings_of_one_page_share_no_name_and_keep_their_own() -> None:
    plots: tuple[Plot, ...] = ("layers", "losses")
    elements = [inline(plot, EVIDENCE) for plot in plots]
    names = [name for text in elements for name in re.findall(r' id="([^"]+)"', text)]
    assert len(set(names)) == len(names)
    for plot, text in zip(plots, elements, strict=True):
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
        assert used
        assert used <= {name for name in names if name.startswith(f"{plot}-")}
        assert text.startswith("<svg")
        assert "<!--" not in text
        assert ElementTree.fromstring(text) is not None  # noqa: S314 (our own text)


@pytest.mark.parametrize("plot", PLOTS)
def test_equal_evidence_gives_equal_text_in_any_thread(plot: Plot) -> None:
    with ThreadPoolExecutor(2) as pool:
        texts = set(pool.map(lambda _: draw(plot, EVIDENCE), range(2)))
    assert len(texts) == 1


@pytest.mark.parametrize("plot", PLOTS)
def test_axes_are_labelled_and_nothing_is_told_by_colour_alone(plot: Plot) -> None:
    for axes in figure(plot).axes:
        drawn = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
        looks = [(str(line.get_linestyle()), line.get_marker(), line.is_dashed()) for line in drawn]
        assert len(set(looks)) == len(looks), [line.get_label() for line in drawn]
        areas = [*axes.collections, *axes.patches] if plot != "layers" else []
        fills = {(str(area.get_label()), area.get_hatch(), _grey(area)) for area in areas if area.get_label()}
        named = {label for label, _, _ in fills if not label.startswith("_")}
        assert len({(hatch, grey) for label, hatch, grey in fills if label in named}) == len(named)
        assert axes.get_ylabel() or plot == "layers"
    assert figure(plot).axes[-1].get_xlabel() or plot == "layers"


def _grey(area: Any) -> float:
    face = area.get_facecolor()
    return round(sum(to_rgb(face[0] if len(face) and not isinstance(face, tuple) else face)), 3)


@pytest.mark.parametrize("plot", PLOTS)
def test_without_its_evidence_a_plot_says_so(plot: Plot) -> None:
    with pytest.raises(NothingToPlot):
        draw(plot, Evidence())


@pytest.mark.parametrize("plot", ["hardness", "promise"])
def test_a_method_that_promises_nothing_has_no_such_plot(plot: Plot) -> None:
    evidence = Evidence([PEER])
    assert draw("losses", evidence)
    with pytest.raises(NothingToPlot):
        draw(plot, evidence)


def test_losses_begin_where_the_run_began_and_show_repairs_and_what_was_taken_back() -> None:
    (axes,) = figure("losses").axes
    shown = lines(axes)
    assert shown["forget set, whole"] == [0.1, 0.5, 0.5, 0.9]
    assert shown["retain set, a minibatch"] == [0.2, 0.2, 0.1]
    assert shown["yardstick (holdout)"] == [2.0, 2.0, 2.0]
    marks = {str(line.get_label()): list(line.get_xdata()) for line in axes.lines}
    assert (marks["repair step"], marks["taken back"]) == ([3], [2])
    assert axes.get_yscale() == "linear"


def test_losses_over_decades_have_a_logarithmic_axis() -> None:
    (axes,) = figure("losses", Evidence([ROWS[0] | {"forget_loss": 1e-4}])).axes
    assert axes.get_yscale() == "log"


def test_hardness_is_drawn_as_a_share_of_what_a_step_can_gain() -> None:
    kappas, branches = figure("hardness").axes
    shown = lines(kappas)
    assert shown["κ / S"] == pytest.approx([0.1, 0.1, -0.25])
    assert shown["κ₁ / S"] == pytest.approx([-0.4, -0.4, -0.2])
    assert shown["κ₂ / S"] == pytest.approx([0.6, 0.6, 0.3])
    assert [str(area.get_label()) for area in branches.collections] == ["direct", "rectified"]


def test_steps_without_any_gradient_have_no_hardness() -> None:
    with pytest.raises(NothingToPlot):
        figure("hardness", Evidence([ROWS[0] | {"forget_capacity": 0.0}]))


def test_promises_are_added_up_over_the_steps_that_were_kept() -> None:
    gain, cost = figure("promise").axes
    assert lines(gain)["promised"] == pytest.approx([0.3, 0.8])
    assert lines(gain)["realised"] == pytest.approx([0.4, 0.65])
    assert lines(cost)["predicted"] == pytest.approx([-0.1, -0.3])
    assert lines(cost)["realised"] == pytest.approx([-0.05, -0.15])


def test_layers_are_sorted_by_their_share_of_the_capacity() -> None:
    (axes,) = figure("layers").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["head", "stem"]  # p is 6 and 2
    assert [text.get_text() for text in axes.texts] == ["+0.25", "75.0%", "-0.50", "25.0%"]


def test_at_most_forty_layers_are_drawn_and_the_title_says_so() -> None:
    many = [LAYERS[0] | {"name": f"layer-{i}", "retain_norm": 100.0 - i} for i in range(45)]
    drawn = figure("layers", Evidence(hardness={"layers": many}))
    assert "40 of 45" in drawn.get_suptitle()
    assert len(drawn.axes[0].get_yticklabels()) == 40


def test_membership_shows_shares_of_records_and_the_attack_s_success() -> None:
    before, after = figure("membership").axes
    assert [patch.get_label() for patch in before.patches] == ["forget (4 records)", "holdout (4 records)"]
    assert list(before.patches[0].get_data().values) == [0.75, 0.25]  # pyright: ignore
    assert list(after.patches[0].get_data().values) == [0.0, 1.0]  # pyright: ignore
    assert after.get_title(loc="left").startswith("after: AUC 0.50")
    only = Evidence(metrics={"before": METRICS["before"]})
    assert len(figure("membership", only).axes) == 1


def test_attacks_show_rounded_weights_and_relearning() -> None:
    rounded, curves = figure("attacks").axes
    heights = [[bar.get_height() for bar in bars] for bars in rounded.containers]  # pyright: ignore
    assert heights[0] == [1.9, 1.8, 1.5]
    assert heights[1][:2] == [2.0, 2.1]
    assert heights[1][2] != heights[1][2]  # not measured
    assert lines(curves) == {"rest of the forget set": [1.9, 1.0], "control: never seen": [2.0, 1.5]}
    only = Evidence(metrics={"attacks": {"relearning": METRICS["attacks"]["relearning"], "quantisation": None}})
    assert len(figure("attacks", only).axes) == 1
