"""The figure of A.5: validation accuracy against how sharp the minimum is."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from grok_lib.paper.correlation import correlations, measured
from grok_lib.paper.figures import VALIDATION, legend_above, no_runs, styled

LABELS = {"Keskar's φ": "rise / (1 + loss)", "authors' figure": "fall / (1 − loss)", "weight norm": "‖w‖"}
PLAIN = FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−"))  # no powers of ten


@styled
def sharpness_scatter(results):
    """Validation accuracy at the end against φ, the authors' figure and the weight norm: a mark per run, open for those
    short of 99%.

    Spearman's ρ and its 95% interval stand above each panel.
    """
    table = measured(results)
    if not len(table):
        return no_runs()
    found, arrived = correlations(results), np.isfinite(table["updates to 99%"])
    figure, axes = plt.subplots(1, len(LABELS), sharey=True, figsize=(7.0, 2.8))
    for ax, (name, label) in zip(axes, LABELS.items()):
        for chosen, face, words in ((arrived, VALIDATION["color"], "reached 99%"),
                                    (~arrived, "none", "not within its budget")):
            if chosen.any():
                ax.plot(table[name][chosen], table["validation accuracy"][chosen], "o", markersize=5,
                        color=VALIDATION["color"], markerfacecolor=face, alpha=0.8, label=words, clip_on=False)
        rho = found[name]
        text = str(rho) if rho.rho is None else f"ρ = {rho.rho:.2f} ({rho.low:.2f} to {rho.high:.2f})".replace("-", "−")
        ax.set_title(f"{name}\n{text}", fontsize=8)
        ax.set_xlabel(label if name == "weight norm" else f"{label} (%)", fontsize=8)
        values = table[name]  # min and max pass over diverged runs
        if 0 < 10 * values.min() < values.max():
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 3) if values.max() < 100 * values.min() else (1,)))
            ax.xaxis.set_minor_formatter(NullFormatter())
        elif values.min() < 0:  # one of 64 lies far out: in proportion it would squeeze all others
            ax.set_xscale("symlog", linthresh=0.1)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter(PLAIN)
        ax.margins(x=0.12)
    axes[0].set(ylabel="validation accuracy at the end", ylim=(-0.03, 1.06))
    axes[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    legend_above(figure, axes[0], fontsize=8)
    return figure
