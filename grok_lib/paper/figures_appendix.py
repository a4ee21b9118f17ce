"""Figure 6, and those that the paper does not have: the fidelity board as a forest plot, and the saturation of float32.
No torch."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from grok_lib.paper.analysis import best_accuracy, first_step, fractions_of, median_step
from grok_lib.paper.fidelity import OURS, board, loss_in
from grok_lib.paper.figures import VALIDATION, legend_above, no_runs, styled, updates_axis

# Both are seen where they coincide.
LOSSES = {"loss in float32": {"color": "black", "linewidth": 2.4},
          "loss in float64": {"color": "#009E73", "linewidth": 1.2}}


@styled
def outliers(results):
    """Figure 6: best validation accuracy against training fraction, a curve for each number of outliers k; beside it
    training.

    Means over seeds, bars from the lowest to the highest. Dotted: the training accuracy of a network that is right
    about every equation, and so wrong about the k outliers.
    """
    if not results:
        return no_runs()
    ks = sorted({h.spec.outliers for h in results})
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.8, len(ks)))  # its yellow is lost on white
    figure, axes = plt.subplots(1, 2, sharey=True, figsize=(7.0, 3.2))
    ends = []
    for i, (k, colour) in enumerate(zip(ks, colours)):
        groups = fractions_of([h for h in results if h.spec.outliers == k])
        for ax, which in zip(axes, ("val", "train")):
            best = [[best_accuracy(h, which) for h in runs] for runs in groups.values()]
            mean = np.array([np.mean(values) for values in best])
            bars = abs(mean - [[end(values) for values in best] for end in (min, max)])  # (2, fractions)
            ax.errorbar(list(groups), mean, bars, color=colour, marker="o", markersize=12 - 2 * i,
                        linewidth=4 - 0.5 * i)  # the larger is seen around the smaller, where they coincide
            if which == "val":
                ends.append((max(groups), mean[-1]))
        axes[1].plot(list(groups), [1 - k / runs[0].spec.train_size for runs in groups.values()], "_:", color=colour,
                     linewidth=1.2)
    for k, colour, (x, y), height in zip(ks, colours, ends, spread([y for _, y in ends], 0.075)):
        axes[0].annotate(f"k = {k:,}", (x, y), (1.03, height), textcoords=("axes fraction", "data"), va="center",
                         fontsize=7.5, annotation_clip=False,
                         arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 1, "relpos": (0, 0.5)})
    for ax, title in zip(axes, ("validation", "training, outliers included")):
        ax.set(title=title, xlim=(0, 1), ylim=(-0.03, 1.06), xlabel="training fraction")
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0].set_ylabel(f"best accuracy within {max(h.spec.steps for h in results):,} updates", fontsize=8)
    axes[1].text(0.03, 0.03, "dotted: every outlier ignored", transform=axes[1].transAxes, fontsize=7.5, color="0.4")
    return figure


def spread(heights, room):
    """Heights as near as may be to those given, in their order, none less than `room` apart (pushed down)."""
    placed, below = np.empty(len(heights)), np.inf
    for i in sorted(range(len(heights)), key=lambda i: (-heights[i], i)):
        placed[i] = below = min(heights[i], below - room)
    return placed + max(0, -placed.min())


@styled
def forest(results):
    """The fidelity board: updates to 99% validation for each way of building it, a panel per operation.

    A ring is a run, a disc the median with its interval as a bar (an open end lies beyond the budget), an arrow a run
    that had not arrived at its budget. Grey: from the first to the last of the runs built as here, their median a line.
    """
    if not results:
        return no_runs()
    rows = board(results)
    names, operations = (list(dict.fromkeys(getattr(row, field) for row in rows)) for field in ("switch", "operation"))
    figure, axes = plt.subplots(1, len(operations), sharey=True, squeeze=False, figsize=(7.0, 0.24 * len(names) + 1.1))
    for row in rows:
        _forest_row(axes[0][operations.index(row.operation)], names.index(row.switch), row)
    for ax, operation in zip(axes[0], operations):
        ax.set(title=f"{operation}, {results[0].spec.train_fraction:.0%}", xscale="log",
               xlabel="updates to 99% validation", ylim=(len(names) - 0.5, -0.5))
        ax.set_yticks(range(len(names)), names)
        ax.margins(x=0.1)
        ax.tick_params(labelsize=7.5)
        crowd = len(operations) * np.ptp(np.log10(ax.get_xlim()))  # decades a figure's width
        ax.xaxis.set_major_locator(
            LogLocator(subs=(1, 3) if crowd > 3 else (1, 2, 5) if crowd > 1 else (1, 1.5, 2, 3, 4, 5, 7)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    return figure


def _forest_row(ax, height, row):
    arrived = [step for h in row.runs if (step := first_step(h)) is not None]
    late, median = [h.spec.steps for h in row.runs if first_step(h) is None], median_step(row.runs)
    if row.switch == OURS and arrived:
        ax.axvspan(min(arrived), max(arrived + late), color="0.95", zorder=0)
        if median.value:
            ax.axvline(median.value, color="0.6", linewidth=1, zorder=0)
    style = {"linestyle": "", "color": VALIDATION["color"], "markerfacecolor": "none"}
    ax.text(0.99, height, f"n = {len(row.runs)}" if len(row.runs) > 1 else "", transform=ax.get_yaxis_transform(),
            ha="right", va="center", fontsize=6.5)
    ax.plot(arrived, _each_seen(arrived, height), marker="o", markersize=5, **style)
    ax.plot(late, _each_seen(late, height), marker=">", markersize=6, **style)
    if median and median.value:
        ax.plot([median.low, median.high or median.budget], [height] * 2, color=VALIDATION["color"], alpha=0.4,
                linewidth=2.5, zorder=1, solid_capstyle="butt")
        ax.plot([median.value], [height], marker="o", markersize=8, color=VALIDATION["color"], alpha=0.5,
                markeredgewidth=0, zorder=1)
    if not row.runs:
        ax.text(0.02, height, "no run yet", transform=ax.get_yaxis_transform(), va="center", fontsize=7, color="0.4",
                bbox={"facecolor": "white", "linewidth": 0, "pad": 1})


def _each_seen(places, height):
    """Heights of marks: those at one place, for updates lie on a grid, one above the other."""
    room = {place: min(0.13, 0.8 / places.count(place)) for place in places}  # in its row
    return [height + room[place] * (places[:i].count(place) - (places.count(place) - 1) / 2)
            for i, place in enumerate(places)]


@styled
def saturation(results):
    """How much of the training set has a loss, or all of its gradient, of exactly 0, against updates; beside it
    validation accuracy."""
    if not results:
        return no_runs()
    figure, (shares, accuracy) = plt.subplots(1, 2, sharex=True, figsize=(7.0, 3.2))
    for history in results:
        name, (zero, still) = loss_in(history.spec), history.kept["saturation"].T
        shares.plot(history.step, zero, **LOSSES[name], label=f"{name}: loss exactly 0")
        shares.plot(history.step, still, **LOSSES[name], linestyle=":", label=f"{name}: no gradient at all")
        accuracy.plot(history.step, history.val_accuracy, **LOSSES[name])
    for ax, title in ((shares, "share of training equations"), (accuracy, "validation accuracy")):
        ax.set(title=title, ylim=(-0.03, 1.06))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        updates_axis(ax, max(h.spec.steps for h in results))
    legend_above(figure, shares)
    return figure
