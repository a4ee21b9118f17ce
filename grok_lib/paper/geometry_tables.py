"""Tables of Figure 3's networks, for notebook 05: who is near whom, by which representation, on which line. No torch.

The tables take {name: rows}, as `rows_of` gives them, and are pandas tables with a row for each network (`survival`:
and perplexity). It is `geometry` that measures.
"""

import numpy as np
import pandas as pd

from grok_lib.paper import geometry
from grok_lib.paper.geometry import CHARACTERS, KINDS


def rows_of(histories, operation):
    """{name: output rows (n, D)} of an operation's histories that did not diverge, each name telling which."""
    return {f"{operation}, {h.spec.train_fraction:.0%}, decay {h.spec.weight_decay:g}, seed {h.spec.seed}, "
            f"{h.last_step:,} updates (validation {h.val_accuracy[-1]:.0%})": geometry.element_rows(h)
            for h in histories if h.spec.operation == operation and h.stopped_because != "diverged"}


def noise(n, width=128):
    """Rows (n, width) of a network that has learnt nothing: normal numbers."""
    return np.random.default_rng(0).normal(size=(n, width))


def cosets(networks):
    """S5: the share of the nearest nine in the same coset, best of twelve partitions, with its two p-values
    (`geometry.best_partition`)."""
    names, partitions = geometry.coset_partitions()
    table = {}
    for name, points in networks.items():
        free, strict = (geometry.best_partition(points, partitions, within=within)
                        for within in (None, geometry.parity()))
        table[name] = {"share the coset": f"{free.score:.1%}", "p": f"{free.p_value:.2g}",
                       "p, within even and odd": f"{strict.p_value:.2g}", "best of twelve": names[free.which]}
    chance = {"share the coset": f"{geometry.NEIGHBOURS / (partitions.shape[1] - 1):.1%}", "p": "-",
              "p, within even and odd": "-", "best of twelve": "-"}
    return pd.DataFrame(table | {"chance": chance}).T


def kinds(networks):
    """S5: what a permutation has to be multiplied by to become one of its nearest three."""
    sizes = geometry.kinds()[0, 1:]  # of all permutations but the identity
    chance = {kind: (sizes == i).mean() for i, kind in enumerate(KINDS)}
    near = {name: geometry.kinds_of_nearest(rows) for name, rows in networks.items()}
    return pd.DataFrame(near | {"chance": chance}).T.drop(columns="identity").map("{:.0%}".format)


def representations(networks):
    """S5: the share of the rows' variance in each representation."""
    shares = {name: geometry.representations(rows) for name, rows in networks.items()}
    chance = {name: chi[0] ** 2 / 119 for name, chi in CHARACTERS.items() if name != "5"}
    return pd.DataFrame(shares | {"chance": chance}).T.rename(
        columns={"1 1 1 1 1": "1 1 1 1 1 (sign)"}).map("{:.0%}".format)


def predictions(networks):
    """S5: whether rows should gather in cosets, by their strongest representation (other than the sign), and whether
    they do.

    Rows that use all of a representation are like those of their coset on average where the subgroup leaves a vector in
    place; special rows may do otherwise.
    """
    in_place, partitions, table = geometry.left_in_place(), geometry.coset_partitions()[1], {}
    for name, rows in networks.items():
        shares = geometry.representations(rows)
        strongest = max(shares.keys() - {"1 1 1 1 1"}, key=shares.get)
        test = geometry.best_partition(rows, partitions, within=geometry.parity())
        table[name] = {"strongest": strongest, "its share": f"{shares[strongest]:.0%}",
                       "predicted": "above chance" if in_place[strongest] else "no more than chance",
                       "share the coset": f"{test.score:.0%}", "p, within even and odd": f"{test.p_value:.2g}"}
    return pd.DataFrame(table).T


def lines(networks):
    """x + y: how long the joins of x and x + s are, as a share of all pairs' mean distance, for the paper's s and the
    shortest; and the strongest frequency."""
    table = {}
    for name, rows in networks.items():
        fixed, own = (geometry.line_test(rows, step) for step in (geometry.PAPER_STEP, None))
        k, step = geometry.dominant_step(geometry.spectrum(rows))
        table[name] = {f"x to x + {geometry.PAPER_STEP}": f"{fixed.score:.2f} (p = {fixed.p_value:.2g})",
                       "steps shorter than that": f"{(fixed.scores < fixed.score).sum()} of {len(fixed.scores)}",
                       "shortest": f"x + {own.which}: {own.score:.2f} (p = {own.p_value:.2g})",
                       "shortest in the plane": f"{geometry.join_lengths(geometry.tsne(rows)).min():.2f}",
                       "strongest frequency": f"{k}, for x + {step}"}
    return pd.DataFrame(table).T


def survival(networks):
    """How much of a t-SNE picture is in the points (`geometry.survival`): lowest, mean and highest share kept, per
    perplexity."""
    table = pd.DataFrame([{"rows": name, **row} for name, rows in networks.items() for row in geometry.survival(rows)],
                         columns=["rows", "perplexity", "seed", "kept"])
    return table.groupby(["rows", "perplexity"])["kept"].agg(["min", "mean", "max"]).map("{:.0%}".format)
