"""Figure 3: t-SNE planes of the output layer's rows, and the Fourier spectra behind them. No torch.

A plane has no axes: only who is near whom means anything in t-SNE.
"""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from grok_lib.paper.figures import styled
from grok_lib.paper.geometry import (PAPER_STEP, best_partition, coset_partitions, dominant_step, element_rows,
                                     join_lengths, partner, tsne)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#4B2E83", "#000000", "#56B4E9", "#888888")  # for residues
# For cosets: hard to mistake, even in grey; the last six are paler, and their shapes open
LETTERS, SHAPES = "ABCDEFGHKMRX", "os^vDP"
STRONGEST, PAPER = "#D55E00", "#0072B2"
HALO = [withStroke(linewidth=1.5, foreground="white")]  # a letter is read where marks and lines cross it


@styled
def planes(panels):
    """Planes side by side: panels are (title, plane, meaning), plane (n, 2), or None where no run is in the store.

    meaning: labels (n,) of cosets, for `coset_plane`, or a step, for `number_line`.
    """
    panels = panels or [("", None, None)]
    figure, axes = plt.subplots(1, len(panels), squeeze=False, figsize=(7.0, 7.0 / max(2, len(panels)) + 0.7))
    for ax, (title, plane, meaning) in zip(axes[0], panels):
        ax.set_title(title, fontsize=8)
        if plane is None:
            _empty(ax)
        elif np.ndim(meaning) == 1:
            coset_plane(ax, plane, meaning)
        else:
            number_line(ax, plane, meaning)
    return figure


def coset_plane(ax, plane, labels):
    """Every point as the letter, in the colour, of its label (n,), 0..11; where there is no room for it, as a mark of
    that label's own shape and colour, an open one for pale letters."""
    _frame(ax, plane)
    colours, pale, shown = np.array(COLOURS)[labels % 6], labels >= 6, _with_room(plane, room=(0.052, 0.058))
    for label in np.unique(labels[~shown]):
        few, colour = ~shown & (labels == label), COLOURS[label % 6]
        ax.scatter(*plane[few].T, s=9, marker=SHAPES[label % 6], facecolors=colour if label < 6 else "none",
                   edgecolors=colour, linewidths=0.7, zorder=4)  # not under a letter's rim
    for i in np.flatnonzero(shown):
        ax.text(*plane[i], LETTERS[labels[i]], color=colours[i], alpha=0.8 if pale[i] else 1, fontsize=7,
                ha="center", va="center", fontweight="normal" if pale[i] else "bold", path_effects=HALO)
    ax.set_xlabel("letter or mark: coset, best of 12\n(pale letters: open marks)", fontsize=7)


def number_line(ax, plane, step):
    """Every point as its number, joined to that `step` further; a dot where there is no room for the number.

    Up to 8 residues mod `step` get a colour each, as in the paper; beyond that colour is the place on the line.
    """
    n, x = len(plane), np.arange(len(plane))
    _frame(ax, plane)
    if step <= len(COLOURS):
        colours, meaning = np.array(COLOURS)[x % step], f"x mod {step}"
    else:
        place = np.argsort(x * step % n)  # for a prime n: the number of steps from 0 to each x
        colours, meaning = plt.get_cmap("viridis")(place / n * 0.75), "place on the line"  # its yellow is lost on white
    joins = np.stack([plane, plane[(x + step) % n]], 1)  # (n, 2, 2)
    ax.add_collection(LineCollection(joins, colors=list(colours), linewidths=0.5, alpha=0.6))
    shown = _with_room(plane)
    ax.scatter(*plane[~shown].T, s=5, c=list(colours[~shown]), linewidths=0, zorder=4)  # not under a number's rim
    for i in np.flatnonzero(shown):
        ax.text(*plane[i], str(i), color=colours[i], fontsize=6, ha="center", va="center", path_effects=HALO)
    ax.set_xlabel(f"x joined to x + {step}; colour: {meaning}", fontsize=7)


def _with_room(plane, room=(0.06, 0.045)):
    """bool (n,): the points whose number has room, the first ones first; a number's size as a share of the panel."""
    places, shown = plane / np.ptp(plane, 0).max() / room, np.zeros(len(plane), bool)
    for i, place in enumerate(places):
        shown[i] = not (np.abs(places[shown] - place) < 1).all(1).any()
    return shown


def _frame(ax, plane=np.array([[0, 0], [1, 1]])):
    """A square around the plane, one scale on both sides, and no ticks."""
    middle, half = (plane.max(0) + plane.min(0)) / 2, 0.56 * np.ptp(plane, 0).max()
    ax.set(xticks=[], yticks=[], aspect="equal", xlim=middle[0] + [-half, half], ylim=middle[1] + [-half, half])
    ax.spines[:].set(visible=True, color="0.8")


def _empty(ax):
    _frame(ax)
    ax.text(0.5, 0.5, "no run in the store yet", transform=ax.transAxes, ha="center", color="0.4")


@styled
def spectra(names, spectra):
    """Shares of variance against frequency, a panel for each network: marked are the strongest, and that of x + 8."""
    figure, axes = plt.subplots(1, max(1, len(names)), sharey=bool(names), squeeze=False, figsize=(7.0, 2.6))
    for ax, name, shares in zip(axes[0], names, spectra):
        frequency, (k, step) = np.arange(1, len(shares) + 1), dominant_step(shares)
        paper = partner(PAPER_STEP, 2 * len(shares) + 1)
        ax.bar(frequency, shares, color=np.where(frequency == k, STRONGEST, np.where(frequency == paper, PAPER, "0.7")))
        if paper != k:  # above all bars, a dotted line leads to its own, which may be too small to see
            ax.annotate(f"{paper} ({shares[paper - 1]:.1%}): x to x + {PAPER_STEP}, the paper's",
                        (paper, shares[paper - 1]), (paper, 1.2 * np.max(spectra)), ha="left", fontsize=7, color=PAPER,
                        arrowprops={"arrowstyle": "-", "color": "0.6", "linestyle": ":", "linewidth": 0.8,
                                    "relpos": (0, 0), "shrinkB": 0})
        ax.annotate(f"strongest: {k}", (k, shares[k - 1]), (0, 3), textcoords="offset points", ha="center",
                    fontsize=7, color=STRONGEST, bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5})
        ax.set(xlabel="frequency (turns from 0 to p)", ylim=(0, 1.3 * np.max(spectra)))
        ax.set_title(textwrap.fill(name, 40), fontsize=8)
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    if names:
        axes[0][0].set_ylabel("share of variance")
    else:
        _empty(axes[0][0])
    return figure


def figure_3(s5, addition, names=("xy in S5", "x+y")):
    """Figure 3 from output rows, or None where no run is: S5 (120, D) by its best coset partition; x + y (p, D) twice.

    Once joined in the paper's steps, once, where these are others, in the network's own: those whose joins are shortest
    among the rows. `names`: of the two networks.
    """
    panels = [(name, None, None) for name in names]
    if s5 is not None:
        cosets, partitions = coset_partitions()
        best = best_partition(s5, partitions, permutations=0).which
        panels[0] = (f"{names[0]}\n{cosets[best]}", tsne(s5), partitions[best])
    if addition is not None:
        plane, step = tsne(addition), int(join_lengths(addition).argmin()) + 1
        steps = {PAPER_STEP: "the paper's step", step: "the shortest step"}
        if step == PAPER_STEP:
            steps = {step: "the shortest step and the paper's"}
        panels[1:] = [(f"{names[1]}\n{words}, {s}", plane, s) for s, words in steps.items()]
    return planes(panels)


def figure_3_of(histories):
    """`figure_3` of the first history of each operation among these that did not diverge."""
    rows, names = [], []
    for operation in ("xy in S5", "x+y"):
        h = next((h for h in histories if h.spec.operation == operation and h.stopped_because != "diverged"), None)
        rows.append(h and element_rows(h))
        names.append(f"{operation}, decay {h.spec.weight_decay:g}: validation {h.val_accuracy[-1]:.0%}"
                     if h else operation)
    return figure_3(*rows, names)
