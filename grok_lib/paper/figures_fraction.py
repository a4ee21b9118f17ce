"""Figures of many runs: a panel for each of them, and what happens as the training fraction shrinks."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import offset_copy

from grok_lib.paper.analysis import best_accuracy, first_step, fractions_of, median_step
from grok_lib.paper.figures import TRAIN, VALIDATION, legend_above, no_runs, styled, updates_axis

OTHERS = "0.82"  # the grey of the curves that a panel is not about


@styled
def side_by_side(groups):
    """Figures 1 (left) and 4: accuracy above, loss below, a column a group of {title: histories}, a line a seed."""
    groups = {title: histories for title, histories in groups.items() if histories}
    if not groups:
        return no_runs()
    figure, axes = plt.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False, figsize=(7.0, 4.6))
    for column, (title, histories) in zip(axes.T, groups.items()):
        for history in histories:
            _draw(column[0], history, "accuracy")
            _draw(column[1], history, "loss")
        updates_axis(column[1], max(h.spec.steps for runs in groups.values() for h in runs))
        column[0].set(title=title, ylim=(-0.02, 1.04))
        column[1].set(yscale="log")
    axes[0][0].set_ylabel("accuracy")
    axes[0][0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[1][0].set_ylabel("cross-entropy (nats)")
    legend_above(figure, axes[0][0])
    return figure


def _draw(ax, history, what):
    for which, label, style in (("train", "training", TRAIN), ("val", "validation", VALIDATION)):
        ax.plot(history.step, getattr(history, f"{which}_{what}"), label=label, **style, linewidth=1.3)


@styled
def panels(histories, title, columns=5):
    """A small learning curve for each run, named by `title(spec)`; below it when validation accuracy reached 99%."""
    if not histories:
        return no_runs()
    figure, axes = _grid(len(histories), columns, 1.45, "updates")
    for ax, history in zip(axes.flat, histories):
        _draw(ax, history, "accuracy")
        ax.set(xscale="log", xlim=(1, max(10, *(h.spec.steps for h in histories))), ylim=(-0.03, 1.06))
        ax.set(xticks=[1, 10, 100, *(10**k for k in range(3, 7) if 10**k <= ax.get_xlim()[1])])
        ax.set_title(in_print(title(history.spec)), fontsize=7.5)
        ax.text(0.04, 0.75, f"99%\n{_short(history)}", transform=ax.transAxes, fontsize=6.5, va="top",
                color=VALIDATION["color"])
    legend_above(figure, axes.flat[0])
    figure.supylabel("accuracy", fontsize=8)
    return figure


def _short(history):
    step = first_step(history)
    return f"at {step:,}" if step is not None else f"not in\n{history.spec.steps:,}"


def in_print(name):
    """An operation's name as mathematics is set: x²+xy+y², xyx⁻¹, x·y."""
    return name.replace("^2", "²").replace("^3", "³").replace("^-1", "⁻¹").replace("*", "·").replace("x-y", "x−y")


def _grid(number, columns, height, xlabel):
    """A figure and `number` panels of shares in rows, (rows, columns); each column's lowest with ticks and label."""
    rows = -(-number // columns)
    figure, axes = plt.subplots(rows, columns, sharex=True, sharey=True, squeeze=False,
                                figsize=(7.0, height * rows + 0.5))
    axes[0][0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))  # the others share it
    for i, ax in enumerate(axes.flat):
        ax.set_visible(i < number)
        ax.tick_params(labelsize=6.5)
        if i < number <= i + columns:
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(xlabel, fontsize=7)
    return figure, axes


@styled
def accuracy_against_fraction(results, name, columns=5, longer=()):
    """Figure 2: best validation accuracy within the budget against training fraction, a panel for each `name(spec)`.

    Each panel shows one curve in colour, its mean over seeds with a band from the lowest to the highest, and all
    others in grey: so that thirteen curves can be told apart, in print and in grey too. `longer`: histories of larger
    budgets, a diamond each.
    """
    names = list(dict.fromkeys(name(spec) for spec in results.specs))
    longer = [h for h in longer if name(h.spec) in names]
    if not results:
        return no_runs()
    table = {"fraction": [h.spec.train_fraction for h in results], "accuracy": [best_accuracy(h) for h in results],
             "name": [name(h.spec) for h in results]}
    asked = {each: sorted({spec.train_fraction for spec in results.specs if name(spec) == each}) for each in names}
    figure, axes = _grid(len(names), columns, 1.45, "training fraction")
    for ax, own in zip(axes.flat, names):
        for other in names:
            _curve(ax, table, other, asked[other], **({"color": VALIDATION["color"], "zorder": 3} if other == own else
                                        {"color": OTHERS, "linewidth": 0.9, "errorbar": None, "marker": ""}))
        ax.set(ylim=(-0.03, 1.06), xlim=(0, 1), ylabel="", xticks=[0, 0.5, 1])
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set_title(in_print(own), fontsize=7.5)
        if late := [h for h in longer if name(h.spec) == own]:
            marks = ax.plot([h.spec.train_fraction for h in late], [best_accuracy(h) for h in late], "D", markersize=4,
                            markerfacecolor="none", color=TRAIN["color"], zorder=4,
                            label=f"a run within {max(h.spec.steps for h in longer):,} updates ({len(longer)} of them)")
        if own not in table["name"]:
            ax.text(0.5, 0.5, "no run yet", transform=ax.transAxes, ha="center", fontsize=6.5, color="0.4",
                    bbox={"facecolor": "white", "linewidth": 0, "pad": 1})
    budgets = " to ".join(
        f"{steps:,}" for steps in sorted({min(s.steps for s in results.specs), max(s.steps for s in results.specs)}))
    figure.supylabel(f"best validation accuracy within {budgets} updates", fontsize=8)
    if longer:
        figure.legend(handles=marks, loc="outside upper right", fontsize=8)
    return figure


def _curve(ax, table, name, asked, **style):
    """A curve that has a gap at fractions asked for and not there."""
    there = {fraction for fraction, each in zip(table["fraction"], table["name"]) if each == name}
    for present, piece in itertools.groupby(asked, there.__contains__):
        if present:
            piece = set(piece)
            chosen = [i for i, each in enumerate(table["name"]) if each == name and table["fraction"][i] in piece]
            sns.lineplot(x=[table["fraction"][i] for i in chosen], y=[table["accuracy"][i] for i in chosen], ax=ax,
                         legend=False, **{"marker": "o", "markersize": 3, "markeredgewidth": 0, "linewidth": 1.3,
                                          "errorbar": ("pi", 100)} | style)


@styled
def updates_against_fraction(results, fits=()):
    """Figure 1 (centre): updates to 99% against training fraction, a mark a run, medians joined; triangles: never."""
    if not results:
        return no_runs()
    figure, ax = plt.subplots(figsize=(7.0, 3.6))
    for which, label, style, marker in (("train", "training", TRAIN, "s"), ("val", "validation", VALIDATION, "o")):
        _runs(ax, results, which, style["color"], marker)
        medians = {f: median_step(runs, which).value for f, runs in fractions_of(results).items()}
        joined = [(f, value or np.nan) for f, value in medians.items()]  # no median, no line
        ax.plot(*zip(*joined), **style, marker=marker, markersize=0, label=f"99% {label}: runs, median")
    for fit in fits:
        x = np.linspace(min(fit.fractions), max(fit.fractions), 50)
        ax.plot(x, fit.steps(x), color="black", linewidth=0.9, linestyle=":")
    prices = [f"dotted: {min(fit.fractions):.0%} to {max(fit.fractions):.0%}, +{fit.cost:.0f}% a point less "
              f"({fit.low:.0f} to {fit.high:.0f}%)" for fit in fits]
    # Where data are plenty nothing is late
    ax.text(0.98, 0.97, "\n".join(prices), transform=ax.transAxes, ha="right", va="top", fontsize=7.5)
    ax.set(yscale="log", xlabel=f"training fraction of {results[0].spec.operation}", ylabel="updates")
    ax.xaxis.set_major_locator(MultipleLocator(0.05))
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.margins(x=0.08, y=0.08)
    legend = figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    for handle in legend.legend_handles:
        handle.set_markersize(5)
    return figure


def _runs(ax, results, which, color, marker):
    """A mark for each run where it arrived, and an open triangle at the budget of one that did not."""
    arrived = [(h.spec.train_fraction, step) for h in results if (step := first_step(h, which)) is not None]
    late = [(h.spec.train_fraction, h.spec.steps) for h in results if first_step(h, which) is None]
    # Both are seen where they arrive together
    aside = offset_copy(ax.transData, ax.figure, {"val": 2.2, "train": -2.2}[which], units="points")
    style = {"linestyle": "", "color": color}
    ax.plot(*(zip(*arrived) if arrived else ([], [])), marker=marker, markersize=5, alpha=0.6, markeredgewidth=0,
            transform=aside, **style)
    if late:
        ax.plot(*zip(*late), marker="^", markersize=7, markerfacecolor="none",
                label={"val": "not within its budget"}.get(which), **style)
    for place in {place for place in late if late.count(place) > 1}:  # they lie on each other
        ax.annotate(f"{late.count(place)} runs", place, (7, 0), textcoords="offset points", va="center", fontsize=7,
                    color=color)
