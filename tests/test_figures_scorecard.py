"""The tiles of the scorecard: each claim in its figure's row, each verdict told apart without colour."""

import pytest

from grok_lib import claims, figures_scorecard
from grok_lib.verdicts import NOT, PARTLY, REPRODUCED, VERDICTS, WAITING, Judgement

pytestmark = pytest.mark.usefixtures("closed_figures")


def with_verdicts(*verdicts):
    return {claim: Judgement(verdict, "1", 1) for claim, verdict in zip(claims.CLAIMS, verdicts)}


def test_each_claim_is_a_tile_in_the_row_of_its_figure():
    judged = with_verdicts(*[WAITING] * len(claims.CLAIMS))
    ax, = figures_scorecard.tiles(judged).axes
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows[0] == "Figure 1 left" and rows[-1] == "A.5"
    tiles = [rows[round(patch.get_y() + 0.4)].removeprefix("Figure ") for patch in ax.patches]
    assert tiles == [claim.figure for row in dict.fromkeys(tiles) for claim in claims.CLAIMS if claim.figure == row]


def test_verdicts_differ_in_letter_or_hatch_and_have_their_name_in_the_legend():
    figure = figures_scorecard.tiles(with_verdicts(REPRODUCED, PARTLY, NOT, WAITING))
    ax, = figure.axes
    assert [text.get_text() for text in ax.texts] == ["R", "P", "N", ""]
    assert [bool(patch.get_hatch()) for patch in ax.patches] == [False, False, False, True]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["R: reproduced", "P: partly", "N: not", WAITING]
    brightness = [sum(patch.get_facecolor()[:3]) for patch in ax.patches]
    assert len(set(brightness)) == len(VERDICTS)


def test_a_tile_without_a_verdict_says_so_where_there_is_a_number_so_far():
    claim = claims.CLAIMS[0]
    for so_far, words in (("40% (within 5,000 updates, 1 seed)", ["so far"]), ("", [])):
        ax, = figures_scorecard.tiles({claim: Judgement(WAITING, "1 run, 3 seeds asked for", 1, so_far)}).axes
        assert [text.get_text() for text in ax.texts if text.get_text()] == words


def test_no_claim_gives_an_empty_figure_and_no_error():
    assert not figures_scorecard.tiles({}).axes[0].patches
