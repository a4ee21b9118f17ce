"""The fidelity board: does building it otherwise change when it is understood? No torch, no drawing.

Two comparisons, neither of which assumes a distribution. *Ratios* pair runs by seed: with the same seed, both ways have
the same split and order (and the same start where the weights have the same shapes), so the luck that they share
cancels. *Ranks* take all runs of both ways, and ask how often chance alone would part them as far. A run that has not
arrived ranks behind all that have.
"""

import dataclasses

import numpy as np
from scipy.stats import rankdata

from grok_lib.paper.analysis import first_step, median_step, updates_to
from grok_lib.paper.variants import BOARD, variant_of
from grok_lib.runs.progress import count

OURS = next(iter(BOARD))  # "as here": what the others are measured against
LEVEL = 0.05  # the chance up to which a difference of ranks is called one


@dataclasses.dataclass(frozen=True)
class Row:
    """One operation, one way of building it: its histories, and those of the runs built as here."""

    operation: str
    switch: str  # a name in `BOARD`
    runs: list
    ours: list

    @property
    def ratio(self):
        """How many times as many updates to 99% validation as here, in words: the median over seeds that both have,
        lowest to highest.

        With n pairs the range holds the true median with a confidence of 1 - 2^(1-n). For a run that did not arrive the
        updates that it had spent stand in: "> × 1.40" where a longer one could move the median. '-': no pair (of one
        split), or one without an arrival as here.
        """
        ours = {h.spec.seed: first_step(h) for h in self.ours if "split_seed" not in BOARD[self.switch]}
        pairs = [h for h in self.runs if h.spec.seed in ours]
        if self.switch == OURS or not pairs or None in [ours[h.spec.seed] for h in pairs]:
            return "-"
        late = [first_step(h) is None for h in pairs]
        ratios = [(first_step(h) or h.last_step) / ours[h.spec.seed] for h in pairs]
        middle, n = np.median(ratios), count(len(pairs), "pair")
        if any(is_late and ratio <= sorted(ratios)[len(ratios) // 2] for is_late, ratio in zip(late, ratios)):
            return f"> × {middle:.2f} ({n})"
        if len(pairs) == 1:
            return f"× {middle:.2f} ({n})"
        top, top_is_late = max(zip(ratios, late))
        bound = "> " if top_is_late else "≥ " if any(late) else ""
        return f"× {middle:.2f} ({min(ratios):.2f} to {bound}{top:.2f}, {n})"

    @property
    def ranked(self):
        """How far the ranks of `runs` add up to more than chance would have it, and the chance of as much, either way;
        None for too few, and for runs that share a split, which are not independent.

        The exact rank-sum test, over all ways to deal the runs out, ties too. Without ties one run against four is
        never below 2 in 5, five against five not below 2 in 252. Runs of one seed share their luck, which it does not
        know and which should make chance rarer still.
        """
        if self.switch == OURS or "split_seed" in BOARD[self.switch] or not self.runs or len(self.ours) < 2:
            return None
        ranks = rankdata([updates_to(h) for h in [*self.runs, *self.ours]])
        ranks = np.rint(2 * ranks).astype(int)  # ties share their mean rank, so twice it is whole
        ways = np.zeros((len(self.runs) + 1, ranks.sum() + 1))  # how many choices of so many runs add up to so much
        ways[0, 0] = 1
        for rank in ranks:
            ways[1:, rank:] += ways[:-1, :-rank].copy()
        away = np.arange(ranks.sum() + 1) - len(self.runs) * (len(ranks) + 1)
        happened = away[ranks[:len(self.runs)].sum()]
        return float(happened / 2), float(ways[-1, abs(away) >= abs(happened)].sum() / ways[-1].sum())

    @property
    def verdict(self):
        """What may be said, in words."""
        if not self.runs:
            return "no run yet"
        if self.switch == OURS:
            return "what the others are measured against"
        median = median_step(self.runs)
        if median.value is None:
            neither = self.ours and median_step(self.ours).value is None
            return f"not within {median.budget:,} updates" + (", nor as here" if neither else "")
        if "split_seed" in BOARD[self.switch]:
            return "not judged: not independent"
        if self.ranked is None:
            return "too few runs as here to judge by"
        away, chance = self.ranked
        side = "slower" if away > 0 else "faster"
        if chance <= LEVEL:
            return side
        theirs, ours = ([updates_to(h) for h in runs] for runs in (self.runs, self.ours))
        apart = min(theirs) > max(ours) or max(theirs) < min(ours)
        return f"{side} than all {len(ours)} of ours" if apart else "no difference shown"


def board(results):
    """The `Row`s: for each operation asked for, every way of `BOARD`, in its order, with or without runs."""
    runs = {}
    for history in results:
        runs.setdefault((history.spec.operation, variant_of(history.spec, BOARD)), []).append(history)
    return [Row(operation, switch, runs.get((operation, switch), []), runs.get((operation, OURS), []))
            for operation in dict.fromkeys(spec.operation for spec in results.specs) for switch in BOARD]


def board_table(results):
    """The board as a pandas table: updates, ratio, chance and verdict of each row."""
    import pandas as pd
    columns = ["operation", "built otherwise", "updates to 99% validation", "times as here", "by chance", "verdict"]
    chance = lambda row: "-" if not row.ranked else "< 0.1%" if row.ranked[1] < 0.001 else f"{row.ranked[1]:.1%}"
    cells = [(row.operation, row.switch, str(median_step(row.runs) or "-"), row.ratio, chance(row), row.verdict)
             for row in board(results)]
    return pd.DataFrame(cells, columns=columns).set_index(columns[:2])


def loss_in(spec):
    """'loss in float32' or 'loss in float64': what a run's softmax and cross-entropy are reckoned in."""
    return "loss in float64" if "float64" in (spec.loss_precision, spec.precision) else "loss in float32"


def saturation_table(results):
    """One row per run: how much of its training set has nothing left to teach, when half of it first had, and when the
    rest was understood."""
    import pandas as pd
    rows = {}
    for h in results:
        zero, still = h.kept["saturation"].T  # (E,) each: shares with a loss, and with a gradient, of exactly 0
        half = f"{h.step[zero >= 0.5][0]:,}" if (zero >= 0.5).any() else "-"
        rows[f"{loss_in(h.spec)}, seed {h.spec.seed}"] = {
            "updates": f"{h.last_step:,}", "half of the losses are 0 first at update": half,
            "losses of 0 at the end": f"{zero[-1]:.1%}", "no gradient at the end, at least": f"{still[-1]:.1%}",
            "99% validation": str(median_step([h]))}
    return pd.DataFrame(rows).T
