"""Figure 3's pictures: what is drawn is what the planes and spectra hold."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from synthetic import history

from grok_lib.paper import figures_geometry, geometry
from grok_lib.paper.figures_geometry import COLOURS
from grok_lib.specs import RunSpec

pytestmark = pytest.mark.usefixtures("closed_figures")

PLANE = np.random.default_rng(0).uniform(-9, 9, (97, 2))


def joins(ax):
    return np.array(ax.collections[0].get_segments())


def test_every_element_is_the_letter_of_its_coset_where_it_lies_or_a_mark_of_its_shape_and_colour():
    labels, plane = geometry.coset_partitions()[1][0], np.random.default_rng(1).normal(size=(120, 2))
    ax = figures_geometry.planes([("S5", plane, labels)]).axes[0]
    letters = {t.get_position(): (t.get_text(), t.get_color()) for t in ax.texts}
    assert letters == {place: (figures_geometry.LETTERS[label], COLOURS[label % 6])
                       for place, label in zip(map(tuple, plane), labels) if place in letters}
    marks = {tuple(place): (to_hex(some.get_edgecolors()[0]).upper(), len(some.get_facecolors()) == 0,
                            str(some.get_paths()[0].vertices))
             for some in ax.collections for place in some.get_offsets()}
    assert (letters.keys() | marks.keys() == set(map(tuple, plane)) and len(letters) + len(marks) == 120
            and min(len(letters), len(marks)) > 0)
    kinds = {label: {marks[tuple(place)] for place, each in zip(plane, labels)
                     if each == label and tuple(place) in marks} for label in range(12)}
    assert all(len(kind) == 1 for kind in kinds.values())
    colours, pale, shapes = zip(*(kinds[label].pop() for label in range(12)))
    assert list(colours) == [COLOURS[label % 6] for label in range(12)] and list(pale) == [False] * 6 + [True] * 6
    assert len(set(shapes)) == 6 and shapes[:6] == shapes[6:]  # in grey, too, a mark is that of one coset


def test_what_is_written_under_a_plane_stays_under_it():
    """Beside others, whatever the number of panels."""
    labels, plane = geometry.coset_partitions()[1][0], np.random.default_rng(1).normal(size=(120, 2))
    for others in (1, 2):
        figure = figures_geometry.planes([("S5", plane, labels), *[("", PLANE, 43)] * others])
        figure.canvas.draw()
        for ax in figure.axes:
            words, box = ax.xaxis.label.get_window_extent(), ax.get_window_extent()
            assert box.x0 <= words.x0 and words.x1 <= box.x1


def test_no_two_cosets_look_the_same_in_colour_or_in_grey():
    texts = figures_geometry.planes([("S5", np.stack([np.arange(12)] * 2, 1), np.arange(12))]).axes[0].texts
    assert len({t.get_text() for t in texts}) == 12  # in grey
    assert len({(t.get_color(), t.get_alpha()) for t in texts}) == 12


def test_no_letter_lies_on_another():
    """Nearer than a letter is wide and high, as shares of the panel."""
    plane = np.random.default_rng(1).normal(size=(120, 2))
    places = np.array([t.get_position() for t in figures_geometry.planes(
        [("S5", plane, geometry.coset_partitions()[1][0])]).axes[0].texts])
    apart = np.abs(places[:, None] - places) / np.ptp(plane, 0).max() + np.eye(len(places))[..., None]
    assert ((apart > 0.05).any(2)).all()


def test_every_element_is_joined_to_the_one_a_step_further():
    for step in (8, 43):
        ends = joins(figures_geometry.planes([("", PLANE, step)]).axes[0])
        np.testing.assert_array_equal(ends, [[PLANE[x], PLANE[(x + step) % 97]] for x in range(97)])


def test_elements_of_one_residue_share_a_colour_and_8_residues_have_8():
    ax = figures_geometry.planes([("", PLANE, 8)]).axes[0]
    colours = [to_hex(c) for c in ax.collections[0].get_colors()]
    assert all(len({colours[x] for x in range(97) if x % 8 == r}) == 1 for r in range(8)) and len(set(colours)) == 8
    numbers = {int(t.get_text()): to_hex(t.get_color()) for t in ax.texts}
    assert all(colour == colours[x] for x, colour in numbers.items()) and "x mod 8" in ax.get_xlabel()


def test_beyond_8_residues_colour_runs_along_the_line():
    ax = figures_geometry.planes([("", PLANE, 43)]).axes[0]
    green = ax.collections[0].get_colors()[[x * 43 % 97 for x in range(97)], 1]  # viridis grows greener all the way
    assert (np.diff(green) >= 0).all() and green[-1] > 2 * green[0] + 0.1 and "place on the line" in ax.get_xlabel()


def test_every_element_is_a_number_or_a_dot_and_no_two_numbers_lie_on_each_other():
    ax = figures_geometry.planes([("", PLANE, 8), ("", PLANE, 8), ("", PLANE, 8)]).axes[0]
    ax.figure.canvas.draw()
    numbers = {int(t.get_text()) for t in ax.texts}
    dots = {tuple(d) for d in ax.collections[1].get_offsets().tolist()}
    assert dots == {tuple(PLANE[x].tolist()) for x in range(97) if x not in numbers} and 20 < len(numbers) < 97
    boxes = [t.get_window_extent() for t in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_plane_has_one_scale_no_ticks_and_holds_every_point():
    for ax in figures_geometry.planes([("a", PLANE * (1, 3), 8), ("b", PLANE, np.zeros(97, int))]).axes:
        assert not len(ax.get_xticks()) and not len(ax.get_yticks()) and ax.get_aspect() == 1
        low, high = np.transpose([ax.get_xlim(), ax.get_ylim()])
        assert np.ptp(high - low) == pytest.approx(0)
        assert all((low < t.get_position()).all() and (t.get_position() < high).all() for t in ax.texts)


def test_no_text_is_smaller_than_six_points():
    figure = figures_geometry.planes([("a", PLANE, 8), ("b", PLANE, np.zeros(97, int))])
    figure2 = figures_geometry.spectra(["a"], [np.full(48, 1 / 48)])
    for f in (figure, figure2):
        assert all(t.get_fontsize() >= 6 for ax in f.axes for t in (*ax.texts, ax.title, ax.xaxis.label))


def test_a_tiny_table_is_drawn_too():
    ax = figures_geometry.planes([("", PLANE[:11], 8)]).axes[0]
    np.testing.assert_array_equal(joins(ax)[5], [PLANE[5], PLANE[2]])
    shares = np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    texts = [t.get_text() for t in figures_geometry.spectra(["mod 11"], [shares]).axes[0].texts]
    assert texts == ["strongest: 4"]  # step 8 is step -3 there, and the strongest frequency already


def test_a_spectrum_is_drawn_as_it_is_with_the_strongest_and_the_papers_frequency_marked():
    shares = np.random.default_rng(0).dirichlet(np.ones(48))
    shares[[11, 22]] = 0.01, 0.5
    other = np.full(48, 1 / 48)
    first, second = figures_geometry.spectra(["a", "b"], [shares, other]).axes
    np.testing.assert_array_equal([b.get_height() for b in first.patches], shares)
    np.testing.assert_array_equal([b.get_x() + b.get_width() / 2 for b in first.patches], np.arange(1, 49))
    np.testing.assert_array_equal([b.get_height() for b in second.patches], other)
    marked = {t.get_text(): t.xy for t in first.texts}
    assert marked == {"12 (1.0%): x to x + 8, the paper's": (12, 0.01), "strongest: 23": (23, 0.5)}
    assert [i + 1 for i, b in enumerate(first.patches) if to_hex(b.get_facecolor()) != to_hex("0.7")] == [12, 23]
    assert [ax.get_title(loc="left") for ax in (first, second)] == ["a", "b"]
    assert first.get_ylim() == second.get_ylim() > (0, 0.5)


def test_figures_of_no_run_say_so():
    for figure in (figures_geometry.planes([]), figures_geometry.spectra([], [])):
        assert [t.get_text() for t in figure.axes[0].texts] == ["no run in the store yet"]
    gap, drawn = figures_geometry.planes([("S5", None, None), ("x+y", PLANE, 8)]).axes
    assert [t.get_text() for t in gap.texts] == ["no run in the store yet"] and len(joins(drawn)) == 97
    assert gap.get_title(loc="left") == "S5"


def test_figure_3_chooses_the_best_partition_and_joins_addition_in_the_papers_steps_and_in_its_own_where_they_differ():
    """S5 rows made of one known partition, addition rows of frequencies 12 and 9: their steps are the paper's 8, and
    43."""
    names, partitions = geometry.coset_partitions()
    noise = np.random.default_rng(0).normal(size=(120, 12))
    s5 = np.eye(12)[partitions[5]] * 3 + 0.1 * noise
    for k, expected in ((12, ["the shortest step and the paper's, 8"]),
                        (9, ["the paper's step, 8", "the shortest step, 43"])):
        angle = 2 * np.pi * k * np.arange(97) / 97
        figure = figures_geometry.figure_3(s5, np.stack([np.cos(angle), np.sin(angle)], 1), ("xy", "x+y, decay 1"))
        titles = [ax.get_title("left") for ax in figure.axes]
        assert titles == [f"xy\n{names[5]}", *(f"x+y, decay 1\n{words}" for words in expected)]


def test_figure_3_without_runs_says_so_in_their_panels():
    figure = figures_geometry.figure_3(None, None)
    assert [t.get_text() for ax in figure.axes for t in ax.texts] == ["no run in the store yet"] * 2


def test_figure_3_of_histories_takes_the_first_of_each_operation_that_did_not_diverge_and_names_it():
    spec = RunSpec(steps=1000, keep=("output",))
    broken = history(spec, kept={"output": np.full((99, 4), np.nan)}, stopped_because="diverged")
    whole = history(spec.but(seed=1, weight_decay=0),
                    kept={"output": np.random.default_rng(0).normal(size=(99, 4)).astype(np.float32)})
    s5, *addition = figures_geometry.figure_3_of([broken, whole]).axes
    assert s5.texts[0].get_text() == "no run in the store yet" and s5.get_title("left") == "xy in S5"
    assert all(ax.get_title("left").startswith("x+y, decay 0: validation 100%\n") for ax in addition) and addition
