"""Numbers from histories, on synthetic ones with known answers."""

import numpy as np
import pytest
from synthetic import history

from grok_lib import analysis, data
from grok_lib.specs import RunSpec


def test_the_first_step_at_a_threshold_is_the_first_evaluated_one_even_if_accuracy_falls_again():
    h = history(val=(0, 0.99, 0.4, 0.5, 1))
    assert analysis.first_step(h) == 1 and analysis.first_step(h, "train") == 10
    assert analysis.first_step(h, threshold=0.995) == 1000


def test_a_run_that_never_got_there_is_censored_and_gives_its_best_instead_of_a_number():
    h = history(val=(0, 0, 0.4, 0.625, 0.5))
    assert analysis.first_step(h) is None
    assert analysis.when(h) == "not within 1,000 updates (best 62.5%)"
    assert analysis.when(h, "train") == "at update 10"


def test_a_diverged_run_never_reached_anything():
    h = history(steps=(0, 1), train=(0, np.nan), val=(0, np.nan), train_loss=(4, np.nan), val_loss=(4, np.nan))
    assert analysis.first_step(h) is None and "best 0.0%" in analysis.when(h)


def test_the_waiting_level_is_the_median_between_knowing_and_rising():
    h = history(steps=(0, 1, 10, 20, 30, 40), train=(0, 1, 1, 1, 1, 1), val=(0, 0.3, 0.4, 0.5, 0.7, 1),
                train_loss=[1] * 6, val_loss=[1] * 6)
    assert analysis.waiting_level(h) == pytest.approx(0.4)


def test_a_run_without_a_wait_or_without_knowing_has_no_level():
    assert analysis.waiting_level(history(val=(0, 0, 0.7, 1, 1))) is None
    assert analysis.waiting_level(history(train=(0, 0, 0.1, 0.2, 0.3))) is None
    assert analysis.percent(None) == "no level" and analysis.percent(0.476) == "47.6%"


def test_the_mirrored_share_is_counted_cell_by_cell():
    spec = RunSpec(modulus=7, train_fraction=0.4)
    train, validation = data.split(spec)
    cells = [divmod(int(e), 7) for e in range(49)]
    shown = {cells[e] for e in train}
    expected = np.mean([(y, x) in shown for x, y in (cells[e] for e in validation)])
    assert analysis.mirrored_share(spec, train) == pytest.approx(expected)


def test_sentences_name_the_run_and_both_sets():
    text = analysis.sentence(history())
    assert text.startswith("x+y (mod 97), 50%: 99 % training accuracy at update 10; 99 % validation accuracy at update 1,000")
    assert analysis.loss_in_words(history()) == (
        "validation loss: 4.00 at the start, at its highest 6.00 at update 10, 0.20 at the end")
