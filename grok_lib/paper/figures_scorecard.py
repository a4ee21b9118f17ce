"""The scorecard at a glance: how many of the paper's claims hold, figure by figure."""

import html
import textwrap

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from grok_lib.paper.figures import VALIDATION, styled
from grok_lib.paper.verdicts import NOT, PARTLY, REPRODUCED, VERDICTS, WAITING

# From dark to light in grey too; hatched where there is nothing to see yet.
LOOKS = {REPRODUCED: {"facecolor": "#0072B2"}, PARTLY: {"facecolor": "#7FC4EE"},
         NOT: {"facecolor": VALIDATION["color"]}, WAITING: {"facecolor": "white", "hatch": "////"}}
LETTERS = dict(zip(VERDICTS, ("R", "P", "N", "")))


def linked(table):
    """A scorecard's table (`claims.as_table`, or some columns of it) as HTML in which the name of a notebook is a link
    to it."""
    cells = table.map(lambda cell: html.escape(str(cell), quote=False))
    return cells.assign(notebook=[f'<a href="{name}.ipynb">{name}</a>'
                                  for name in table["notebook"]]).to_html(escape=False)


@styled
def tiles(judged):
    """A row for each of the paper's figures, a tile for each of its claims, in their order: {claim: judgement};
    "so far" where there is a number but no verdict."""
    rows = list(dict.fromkeys(claim.figure for claim in judged))
    figure, ax = plt.subplots(figsize=(7.0, 0.52 * len(rows) + 0.8))
    for y, row in enumerate(rows):
        for x, (claim, its) in enumerate((claim, its) for claim, its in judged.items() if claim.figure == row):
            ax.add_patch(plt.Rectangle((x + 0.03, y - 0.4), 0.94, 0.8, edgecolor="0.6", linewidth=0.8,
                                       **LOOKS[its.verdict]))
            color = "black" if its.verdict in (PARTLY, WAITING) else "white"
            words = "\n".join([*textwrap.wrap(claim.short, 12), *(["so far"] if its.so_far else [])])
            ax.text(x + 0.07, y, LETTERS[its.verdict], va="center", fontsize=9, fontweight="bold", color=color)
            box = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5}} if its.verdict == WAITING else {}
            ax.text(x + 0.56 - 0.06 * bool(box), y, words, ha="center", va="center", fontsize=6.3, color=color, **box)
    widest = max((sum(claim.figure == row for claim in judged) for row in rows), default=1)
    ax.set(xlim=(0, widest), ylim=(max(len(rows), 1) - 0.5, -0.5),
           xlabel="claims, in the order of the table; so far: a number, but no verdict")
    ax.set_yticks(range(len(rows)), [f"Figure {row}" if row[0].isdigit() else row for row in rows])
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    names = {verdict: f"{LETTERS[verdict]}: {verdict}" if LETTERS[verdict] else verdict for verdict in VERDICTS}
    figure.legend(handles=[Patch(label=names[v], edgecolor="0.6", **LOOKS[v]) for v in VERDICTS],
                  loc="outside upper center", ncols=4)
    return figure
