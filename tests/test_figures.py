"""Figures: what is drawn is what the histories say, and a saved figure says what it stands on."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from synthetic import history

from grok_lib.operations import operation
from grok_lib.paper import figures
from grok_lib.runs.results import Results
from grok_lib.specs import RunSpec

pytestmark = pytest.mark.usefixtures("closed_figures")


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_a_learning_curve_draws_exactly_the_history():
    h = history()
    accuracy, loss = figures.learning_curve(h).axes
    for ax, curves in ((accuracy, (h.train_accuracy, h.val_accuracy)), (loss, (h.train_loss, h.val_loss))):
        for label, curve in zip(("training", "validation"), curves):
            np.testing.assert_array_equal(lines(ax)[label].get_xdata(), h.step)
            np.testing.assert_array_equal(lines(ax)[label].get_ydata(), curve)


def test_training_and_validation_look_different_and_the_same_in_every_figure():
    for figure in (figures.learning_curve(history()), figures.learning_curves([history()] * 2, ["a", "b"])):
        for ax in figure.axes:
            train, validation = lines(ax)["training"], lines(ax)["validation"]
            assert (train.get_color(), train.get_linestyle()) == ("#0072B2", "--")
            assert (validation.get_color(), validation.get_linestyle()) == ("#D55E00", "-")


def test_the_first_updates_at_99_percent_are_marked_and_a_run_that_never_got_there_is_not():
    texts = {t.get_text() for t in figures.learning_curve(history()).axes[0].texts}
    assert {"10", "1,000"} <= texts
    assert not {t.get_text() for t in figures.learning_curve(history(train=[0] * 5, val=[0] * 5)).axes[0].texts}


def test_a_figure_of_no_run_says_so():
    assert [t.get_text() for t in figures.learning_curves(Results([], [RunSpec()]), []).axes[0].texts] == [
        "no run in the store yet"]
    assert figures.stands_on(Results([], [RunSpec()])) == "0 of 1 run, 0 seeds; none trained"


def test_a_puzzle_shows_the_cells_it_is_told_to_and_hides_the_others():
    op, shown = operation("x-y", 5), np.array([0, 7, 24])
    texts = [t.get_text() for t in figures.puzzle(op, shown, list("abcde")).axes[0].texts]
    assert texts.count("?") == 22 and [texts[i] for i in shown] == ["a", "e", "a"]


def test_the_table_picture_leaves_out_what_is_undefined_or_not_shown():
    op = operation("x/y", 7)
    whole, part = (ax.images[0].get_array() for ax in figures.table_as_picture(op, np.array([3])).axes[:2])
    assert np.ma.count(np.ma.masked_invalid(whole)) == 42 and np.ma.count(np.ma.masked_invalid(part)) == 1


def test_showing_a_figure_saves_it_with_its_alt_text_and_what_it_stands_on(tmp_path, monkeypatch):
    monkeypatch.setenv("GROK_BUILD", str(tmp_path))
    def drawn():
        return figures.show(figures.learning_curve(history()), "a", Results([history()], [history().spec] * 3),
                            "two curves")
    picture = drawn()
    facts = json.loads((tmp_path / "figures" / "a.json").read_text())
    assert facts == {"name": "a", "alt": "two curves", "runs": 1, "needed": 3, "keys": [history().spec.key]}
    first = {p.suffix: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    assert set(first) == {".png", ".pdf", ".json"} and picture.data == first[".png"] and picture.alt == "two curves"
    with plt.rc_context({"axes.linewidth": 4, "savefig.bbox": "tight", "font.size": 20}):
        drawn()  # no dates, and nothing of the reader's own settings: the same data gives the same bytes
    assert first == {p.suffix: p.read_bytes() for p in (tmp_path / "figures").iterdir()}


def test_a_figure_says_how_many_runs_and_seeds_it_stands_on_and_what_trained_them():
    runs = [history(), history(RunSpec(steps=1000, seed=1))]
    assert figures.stands_on(Results(runs, [RunSpec()] * 5)) == "2 of 5 runs, 2 seeds; a test"
    assert figures.stands_on(Results(runs[:1], [RunSpec()])) == "1 run, 1 seed; a test"


def test_drawing_leaves_the_readers_own_settings_alone():
    before = dict(plt.rcParams)
    figures.learning_curve(history())
    assert dict(plt.rcParams) == before


def test_live_draws_while_it_trains_and_ends_with_the_saved_figure(monkeypatch, tmp_path):
    monkeypatch.setenv("GROK_BUILD", str(tmp_path))
    drawn = []
    class Handle:
        update = drawn.append
    monkeypatch.setattr("IPython.display.display", lambda figure, display_id: Handle)
    running, done = history(val=(0, 0, 0.3, 0.5, 0.6), stopped_because="running"), history()
    assert figures.live(iter([(500, [running]), (1000, [done])]), "curve", pause=0) is done
    moving, last = drawn[0], drawn[-1]
    assert "validation" in lines(moving.axes[0]) and len(drawn) >= 2
    assert last.data == (tmp_path / "figures" / "curve.png").read_bytes()
    drawn.clear()
    begun = history(RunSpec(steps=1000), steps=(0,), train=(0,), val=(0,), train_loss=(4,), val_loss=(4,),
                    stopped_because="running")
    figures.live(iter([(0, [begun]), (1000, [done])]), "curve", pause=0)
    assert len(drawn) == 2  # the end, moving and saved: update 0 alone has no place on the axis
    assert "99% validation accuracy at update 1,000" in last.alt
