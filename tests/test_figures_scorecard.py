"""The tiles of the scorecard: each claim in its figure's row, each verdict told apart without colour."""

import pandas as pd
import pytest

from grok_lib.paper import claims, figures_scorecard
from grok_lib.paper.verdicts import NOT, PARTLY, REPRODUCED, VERDICTS, WAITING, Judgement

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
    assert [text.get_text() for text in ax.texts[::2]] == ["R", "P", "N", ""]
    assert [bool(patch.get_hatch()) for patch in ax.patches] == [False, False, False, True]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "R: reproduced", "P: partly", "N: not", WAITING]
    brightness = [sum(patch.get_facecolor()[:3]) for patch in ax.patches]
    assert len(set(brightness)) == len(VERDICTS)


def test_a_tile_names_its_claim_and_says_where_there_is_a_number_so_far_but_no_verdict():
    claim = claims.CLAIMS[0]
    for so_far, words in (("40% (within 5,000 updates, 1 seed)", [f"{claim.short} so far"]), ("", [claim.short])):
        ax, = figures_scorecard.tiles({claim: Judgement(WAITING, "1 run, 3 seeds asked for", 1, so_far)}).axes
        assert [text.get_text().replace("\n", " ") for text in ax.texts if text.get_text()] == words
    assert len({claim.short for claim in claims.CLAIMS}) == len(claims.CLAIMS)


def test_no_text_leaves_its_tile_or_touches_another():
    for verdict, so_far in ((REPRODUCED, ""), (WAITING, "40%")):
        figure = figures_scorecard.tiles({claim: Judgement(verdict, "1", 1, so_far) for claim in claims.CLAIMS})
        figure.canvas.draw()
        ax, = figure.axes
        for patch, letter, words in zip(ax.patches, ax.texts[::2], ax.texts[1::2]):
            tile, inside = patch.get_window_extent(), words.get_window_extent()
            assert (tile.x0 < inside.x0 and inside.x1 < tile.x1
                    and tile.y0 < inside.y0 and inside.y1 < tile.y1), words.get_text()
            assert not letter.get_text() or letter.get_window_extent().x1 < inside.x0, words.get_text()


def test_no_claim_gives_an_empty_figure_and_no_error():
    assert not figures_scorecard.tiles({}).axes[0].patches


def test_in_the_table_a_notebooks_name_is_a_link_to_it_and_no_other_text_is_taken_for_html():
    table = pd.DataFrame({"claim": ["p < 0.05 & more"], "notebook": ["05_embeddings"]})
    shown = figures_scorecard.linked(table)
    assert '<a href="05_embeddings.ipynb">05_embeddings</a>' in shown and "p &lt; 0.05 &amp; more" in shown
