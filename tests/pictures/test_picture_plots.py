"""Curves: what is drawn, odd series, files; matplotlib stays unloaded until asked for."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pygan.errors import OutputError
from pygan.pictures import PictureError, divergence_plot, loss_plot, losses_of_runs_plot, plots

STEPS = np.arange(0, 500, 5)
LOSS = np.exp(-STEPS / 200)
LABELS = ("Flux", "PyTorch")


@pytest.fixture
def figure(monkeypatch):
    """The figure that a plot would save, for a look at what it holds."""
    kept = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (kept.append(figure), save(figure, path)))
    return kept


def read_size(path):
    """Width and height from the header of a PNG."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_losses_of_both_stacks_and_their_difference(tmp_path, figure):
    left = {"discriminator": (STEPS, LOSS), "generator": (STEPS, 1 - LOSS)}
    right = {"discriminator": (STEPS[::2], LOSS[::2] + 1e-6), "generator": (STEPS, 1 - LOSS)}
    loss_plot(tmp_path / "l.png", left, right, LABELS)
    assert read_size(tmp_path / "l.png") == (1104, 792)
    upper, lower = figure[0].axes
    assert legend(upper) == [
        "discriminator, Flux",
        "discriminator, PyTorch",
        "generator, Flux",
        "generator, PyTorch",
    ]
    assert legend(lower) == ["discriminator", "generator (100 of 100 exactly 0)"]
    assert lower.get_yscale() == "log"
    steps, difference = lower.lines[0].get_data()
    assert np.array_equal(steps, STEPS[::2])
    assert np.allclose(difference, 1e-6)
    low, high = lower.get_ylim()
    assert low < 1e-6 < high


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({}, {}),
        ({"discriminator": (STEPS, LOSS)}, {}),
        ({"discriminator": (STEPS, LOSS)}, {"generator": (STEPS, LOSS)}),
        ({"discriminator": (STEPS, LOSS)}, {"discriminator": (STEPS + 1, LOSS)}),
        ({"discriminator": (STEPS, LOSS * np.nan)}, {"discriminator": (STEPS, LOSS)}),
        ({"discriminator": ([], [])}, {"discriminator": ([], [])}),
    ],
)
def test_nothing_to_compare_is_said_in_the_plot(tmp_path, figure, left, right):
    loss_plot(tmp_path / "l.png", left, right, LABELS)
    assert [text.get_text() for text in figure[0].axes[1].texts] == ["no step that both stacks recorded"]
    assert read_size(tmp_path / "l.png")


def test_a_single_step_equal_losses_and_infinities_are_drawn(tmp_path):
    loss_plot(tmp_path / "a.png", {"d": ([0], [1.0])}, {"d": ([0], [1.0])}, LABELS)
    loss_plot(tmp_path / "b.png", {"d": ([0, 1], [1.0, np.inf])}, {"d": ([1, 0], [2.0, 1.5])}, LABELS)
    assert read_size(tmp_path / "a.png") == read_size(tmp_path / "b.png")


def test_more_losses_than_colours(tmp_path, figure):
    many = {f"loss {number}": (STEPS, LOSS * number) for number in range(1, 10)}
    loss_plot(tmp_path / "m.png", many, {name: (s, v * 1.001) for name, (s, v) in many.items()}, LABELS)
    assert len(figure[0].axes[1].lines) == 9


def test_divergence_on_a_logarithmic_axis_with_all_points_in_view(tmp_path, figure):
    values = 1e-7 * np.exp(STEPS / 60)
    divergence_plot(tmp_path / "d.png", STEPS, {"pictures": values})
    (axes,) = figure[0].axes
    assert legend(axes) == ["pictures"]
    assert axes.get_yscale() == "log"
    (line,) = axes.lines
    assert np.array_equal(line.get_ydata(), values)
    low, high = axes.get_ylim()
    assert low < values.min() and values.max() < high


def test_divergence_of_exactly_equal_pictures(tmp_path, figure):
    divergence_plot(tmp_path / "d.png", STEPS, {"pictures": STEPS * 0.0})
    assert legend(figure[0].axes[0])[0] == "pictures (100 of 100 exactly 0)"


def test_series_of_unequal_length_are_refused(tmp_path):
    with pytest.raises(PictureError, match="discriminator"):
        loss_plot(tmp_path / "l.png", {"discriminator": (STEPS, LOSS[1:])}, {}, LABELS)
    with pytest.raises(PictureError, match="pictures"):
        divergence_plot(tmp_path / "l.png", STEPS, {"pictures": LOSS[1:]})
    assert not os.listdir(tmp_path)


def test_an_unwritable_place_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError):
        divergence_plot(tmp_path / "file" / "d.png", STEPS, {"pictures": LOSS})
    assert os.listdir(tmp_path) == ["file"]


def test_importing_the_package_loads_neither_matplotlib_nor_torch():
    code = "import sys, pygan.pictures; print([m for m in ('matplotlib', 'torch', 'juliacall') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_losses_of_any_number_of_runs_have_a_panel_each(tmp_path, figure):
    runs = {
        "A: $x$": {"discriminator": (STEPS, LOSS), "generator": (STEPS, LOSS)},
        "B: é": {"generator": ([0, 1], [1.0, np.inf])},
        "C": {},
    }
    losses_of_runs_plot(tmp_path / "losses.png", runs)
    upper, lower = figure[0].axes
    assert legend(upper) == [r"A: \$x\$"]
    assert legend(lower) == [r"A: \$x\$", "B: ?"]
    assert lower.get_lines()[0].get_color() == upper.get_lines()[0].get_color()
    assert read_size(tmp_path / "losses.png")[0] > 900
