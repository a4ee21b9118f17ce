"""The tiles of the scorecard: each claim in its figure's row, each verdict told apart without colour."""

import matplotlib.pyplot as plt
import pytest

from grok_lib import claims, figures_scorecard
from grok_lib.verdicts import NOT, PARTLY, REPRODUCED, VERDICTS, WAITING, Judgement


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


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


def test_no_claim_gives_an_empty_figure_and_no_error():
    assert not figures_scorecard.tiles({}).axes[0].patches
