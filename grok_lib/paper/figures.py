"""Figures: functions from histories to a matplotlib `Figure`, and `show`, which saves one with what it stands on.

Training is blue and dashed, validation orange-red and solid, wherever both are curves of one panel; where colours are
taken (Figure 6's tell k, saturation's the loss), each has a panel of its own. No torch here.
"""

import functools
import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
from matplotlib.ticker import PercentFormatter

from grok_lib import paths
from grok_lib.operations import operation
from grok_lib.paper.analysis import first_step, sentence
from grok_lib.runs.results import Results, hardware

STYLE = ["default", Path(__file__).with_name("grok.mplstyle")]  # whatever the reader's matplotlibrc says
TRAIN = {"color": "#0072B2", "linestyle": "--", "zorder": 2.5}  # above: what it crosses is seen through its gaps
VALIDATION = {"color": "#D55E00", "linestyle": "-"}


def styled(function):
    """Draw with the project's one style, leaving the reader's own settings alone."""
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with plt.style.context(STYLE):
            return function(*args, **kwargs)
    return wrapper


@styled
def puzzle(op, shown, symbols):
    """A small operation table with holes, as in Figure 1 (right): `shown` equations (indices), `symbols` n names."""
    n, seen = op.size, _only(op, shown)
    figure, axes = plt.subplots(figsize=(0.42 * n + 0.6,) * 2)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal", xlabel="y", ylabel="x")
    for x in range(n):
        for y in range(n):
            empty = np.isnan(seen[x, y])
            axes.text(y, x, "?" if empty else symbols[op.table[x, y]], ha="center", va="center", fontsize=11,
                      color="0.6" if empty else "black")
    axes.set_xticks(range(n), symbols, fontsize=11, fontweight="bold")
    axes.set_yticks(range(n), symbols, fontsize=11, fontweight="bold")
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    axes.grid(False)
    for at in np.arange(n + 1) - 0.5:
        axes.axhline(at, color="0.85", linewidth=0.6)
        axes.axvline(at, color="0.85", linewidth=0.6)
    axes.spines[:].set_visible(False)
    return figure


@styled
def table_as_picture(op, training=None):
    """The operation's table as colours, and beside it, if `training` (N,) is given, the cells the network sees."""
    figure, axes = plt.subplots(1, 2 if training is not None else 1, squeeze=False, figsize=(6.4, 3.2))
    pictures = [("the whole table", _only(op, slice(None)))]
    if training is not None:
        pictures.append(("shown to the network (rest white)", _only(op, training)))
    for ax, (title, picture) in zip(axes[0], pictures):
        image = ax.imshow(picture, interpolation="nearest", vmin=0, vmax=op.size - 1)
        ax.set(title=title, xlabel="y", ylabel="x")
        ax.grid(False)
    figure.colorbar(image, ax=axes[0], label=op.label, shrink=0.8)
    return figure


def _only(op, shown):
    """The table with nothing but some of its equations, the rest NaN."""
    cells = np.full(op.table.shape, np.nan)
    x, y, answer = op.equations[shown].T
    cells[x, y] = answer
    return cells


@styled
def learning_curve(history):
    """Accuracy and loss of one run against updates, training and validation, as in Figures 1 (left) and 4; marks where
    each accuracy first reaches 99%."""
    figure, axes = plt.subplots(1, 2)
    draw_learning_curve(axes, history)
    return figure


@styled
def learning_curves(histories, titles):
    """Accuracy of several runs side by side, one panel each, on one scale; no runs, an empty panel that says so."""
    if not histories:
        return no_runs()
    figure, axes = plt.subplots(1, len(histories), sharey=True, sharex=True, squeeze=False,
                                figsize=(7.0, 2.9))
    for ax, history, title in zip(axes[0], histories, titles):
        _accuracy(ax, history, marks=True)
        ax.get_legend().remove()
        ax.set(title=title, ylabel="", xlim=(1, max(h.spec.steps for h in histories)))
    axes[0][0].set_ylabel("accuracy")
    legend_above(figure, axes[0][0])
    return figure


def legend_above(figure, ax, **style):
    """A legend above the panels, with one entry for each label of `ax`, however often it stands there."""
    handles, labels = ax.get_legend_handles_labels()
    once = dict(zip(labels, handles))
    figure.legend(once.values(), once.keys(), loc="outside upper right", ncols=2, **style)


def no_runs():
    """An empty panel that says why it is empty."""
    figure, ax = plt.subplots(figsize=(7.0, 2.9))
    ax.text(0.5, 0.5, "no run in the store yet", transform=ax.transAxes, ha="center", color="0.4")
    return figure


def draw_learning_curve(axes, history, marks=True):
    """Draw `learning_curve` into two axes."""
    _accuracy(axes[0], history, marks)
    axes[0].set_title(operation(history.spec.operation, history.spec.modulus).label +
                      f", {history.spec.train_fraction:.0%} of the table")
    axes[1].plot(history.step, history.train_loss, label="training", **TRAIN)
    axes[1].plot(history.step, history.val_loss, label="validation", **VALIDATION)
    axes[1].set(yscale="log", ylabel="cross-entropy (nats)", title="loss")
    updates_axis(axes[1], history.spec.steps)
    axes[1].legend(loc="lower left")


def _accuracy(ax, history, marks):
    ax.plot(history.step, history.train_accuracy, label="training", **TRAIN)
    ax.plot(history.step, history.val_accuracy, label="validation", **VALIDATION)
    ax.set(ylim=(-0.02, 1.09), ylabel="accuracy")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    updates_axis(ax, history.spec.steps)
    ax.legend(loc="center left")
    for which, style in (("train", TRAIN), ("val", VALIDATION)):
        step = first_step(history, which) if marks else None
        if step is not None:
            ax.plot([step], [1.0], marker="v", color=style["color"], clip_on=False)
            ax.annotate(f"{step:,}", (step, 1.0), (0, 5), textcoords="offset points", ha="center", fontsize=8,
                        color=style["color"])


def updates_axis(ax, budget):
    """Updates from 1 to the budget, in decades."""
    ax.set(xscale="log", xlim=(1, max(10, budget)), xlabel="updates")


def live(histories, name, pause=1.0):
    """Draw one run while it trains, redrawn at most once in `pause` seconds; returns its finished history.

    `histories` yields (step, [history]) as `sweep.watch` does. In a notebook the picture moves, and its last state
    is the finished learning curve, saved under `name` by `show`.
    """
    from IPython.display import display
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(1, 2, dpi=90)
    plt.close(figure)  # or the notebook would show it a second time
    handle, drawn = display(figure, display_id=True), time.monotonic()
    for step, (history,) in histories:
        if time.monotonic() - drawn > pause and len(history.step) > 1:  # update 0 has no place on the axis
            with plt.style.context(STYLE):
                for ax in axes:
                    ax.clear()
                draw_learning_curve(axes, history, marks=False)
                figure.suptitle(f"update {step:,}", fontsize=9)
                handle.update(figure)
            drawn = time.monotonic()
    alt = f"Accuracy and loss against updates. {sentence(history)}"
    handle.update(show(learning_curve(history), name, Results([history], [history.spec]), alt))
    return history


def show(figure, name, results, alt):
    """Save a figure as NAME.pdf, NAME.png and NAME.json in the build folder, and return it as a picture with alt text.

    The line under it says on how many runs it stands, and where they were trained; NAME.json says so for
    programs, with the runs' keys. No dates: the same data gives the same bytes. `results`: what `get_results`
    gave, or None for a figure of no run.
    """
    from IPython.display import Image
    facts = {"name": name, "alt": alt, "runs": 0, "needed": 0}
    if results is not None:
        facts |= {"runs": len(results), "needed": len(results.specs), "keys": [h.spec.key for h in results]}
        figure.supxlabel(stands_on(results), fontsize=6.5, color="0.4", x=0.99, ha="right")
    folder = paths.build() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    with plt.style.context(STYLE):
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    plt.close(figure)
    with PIL.Image.open(folder / f"{name}.png") as picture:
        small = picture.convert("RGB").quantize(128)  # a third of the size, and no eye sees it
    small.save(folder / f"{name}.png", optimize=True)
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    return Image((folder / f"{name}.png").read_bytes(), alt=alt, width=int(figure.get_figwidth() * 100))


def stands_on(results):
    """One line: how many runs, how many seeds, and what trained them."""
    return f"{results.coverage}, {results.seeds}; {hardware(results) or 'none trained'}"
