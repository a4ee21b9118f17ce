"""Every claim of the paper (Power et al. 2022) that runs can decide, with the rule that judges it. No torch.

Nothing is typed but the claim: the rule is the docstring of its judge, number and verdict are computed from the store,
and new runs change them. Nothing is trained here. The paper makes no claim that weight decay is *necessary*; so there
is none here.
"""

import collections
import contextlib
import dataclasses
from collections.abc import Callable

from grok_lib.paper import experiments, judges, judges_fraction, judges_networks, verdicts
from grok_lib.paper.verdicts import VERDICTS, WAITING, Judgement, TooFew
from grok_lib.runs.progress import count
from grok_lib.runs.results import Results, stored


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the paper, the figure it goes with, the experiment whose runs decide it, and how."""

    figure: str
    experiment: str
    short: str  # on a tile
    sentence: str
    rule: Callable  # Results -> Judgement; its docstring says when it is reproduced, and when partly

    @property
    def notebook(self):
        """The notebook that shows the figure."""
        return experiments.EXPERIMENTS[self.experiment].notebook

    @property
    def test(self):
        """The rule in words, in one line."""
        return " ".join(self.rule.__doc__.split())

    def judge(self, results):
        """The `Judgement` that `results` allow. Runs of another size than the paper's (profile smoke) are left out."""
        own = results.where(modulus=97, width=128, layers=2)
        try:
            return self.rule(own)
        except TooFew as few:
            return Judgement(WAITING, str(few), few.n, self._so_far(own))

    def _so_far(self, results):
        """The rule's number by what runs there are, with their budgets and seeds; "" where they give none."""
        with contextlib.suppress(TooFew), verdicts.so_far():
            its, budgets = self.rule(results), {h.spec.steps for h in results}
            if its.n < len(results):  # which of them, only the rule knows
                return f"{its.number} ({count(its.n, 'run')})"
            within = " to ".join(f"{budget:,}" for budget in sorted({min(budgets), max(budgets)}))
            return f"{its.number} ({count(its.n, 'run')}, {results.seeds}, within {within} updates)"
        return ""


CLAIMS = (
    Claim("1 left", "grokking_curve", "by heart before 10³",
          "Training accuracy is close to 100% before 10³ updates",
          judges.known_early),
    Claim("1 left", "grokking_curve", "waits until 10⁵",
          "There is almost no generalisation before 10⁵ updates",
          judges.waits),
    Claim("1 left", "grokking_curve", "whole near 10⁶",
          "Validation accuracy is close to 100% near 10⁶ updates",
          judges.understands_late),
    Claim("1 left", "grokking_curve", "1000 × to start",
          "Validation rises beyond chance only after 1000 times as many updates as training took",
          judges.starts_late),
    Claim("1 left", "grokking_curve", "1000 × to the end",
          "Generalising takes 1000 times as many updates as learning by heart",
          judges.thousandfold),
    Claim("1 left", "operations", "typical for all",
          "A long wait is typical for all operations, near the smallest fraction that generalises",
          judges.typical),
    Claim("4", "grokking_curve", "loss rises",
          "Validation loss rises while training loss falls",
          judges.loss_rises),
    Claim("4", "grokking_curve", "loss falls again",
          "Validation loss falls a second time, long after training loss is tiny",
          judges.loss_falls_again),
    Claim("1 centre", "data_reduction", "less data: dearer",
          "The less data, the more updates until validation is understood",
          judges.dearer),
    Claim("1 centre", "data_reduction", "a point: 40 to 50%",
          "Near 25 to 30%, a point less data costs 40 to 50% more updates",
          judges.forty_to_fifty),
    Claim("1 centre", "data_reduction", "whole over a range",
          "Accuracy stays at 100% within a range of training fractions",
          judges.stays_whole),
    Claim("1 centre", "data_reduction", "more data: together",
          "With more data, training and validation track each other more closely",
          judges.tracks),
    Claim("1 centre", "data_reduction", "train in 10³ to 10⁴",
          "99% training accuracy takes 10³ to 10⁴ updates at every fraction",
          judges.learns_by_heart_as_fast),
    Claim("1 centre", "data_reduction", "less data: sooner",
          "99% training accuracy tends to take fewer updates with less data",
          judges.by_heart_sooner),
    Claim("2 right", "operations", "symmetry helps",
          "Symmetric operations need less data than their non-symmetric cousins",
          judges_fraction.symmetric_need_less),
    Claim("2 right", "operations", "x-y like x/y",
          "x - y needs about as much data as x / y",
          judges_fraction.as_hard_as_subtraction),
    Claim("2 right", "operations", "mixture comes",
          "The mixture of x / y and x - y generalises",
          judges_fraction.mixture_generalises),
    Claim("2 right", "operations", "mixture is dearer",
          "More complicated operations need more data: the mixture more than x / y and x - y",
          judges_fraction.mixture_needs_more),
    Claim("2 right", "operations", "dearer: all tasks",
          "The less data, the more updates, for all operations that generalise",
          judges_fraction.dearer_everywhere),
    Claim("2 right", "operations", "one never comes",
          "x³ + xy² + y never generalises, up to 95%",
          judges_fraction.never_up_to_95),
    Claim("2 right", "operations", "merely memorised",
          "x³ + xy² + y is merely memorised, without any pattern",
          judges_fraction.merely_memorised),
    Claim("2 left", "regularizers", "decay is best",
          "Weight decay needs the least data of nine variants",
          judges_fraction.decay_is_best),
    Claim("2 left", "regularizers", "halves the data",
          "Weight decay more than halves the data that most others need",
          judges_fraction.decay_halves_the_data),
    Claim("2 left", "regularizers", "to init is second",
          "Decay towards the initial weights is good, but worse than towards the origin",
          judges_fraction.decay_to_init_is_second),
    Claim("2 left", "regularizers", "all train alike",
          "Training takes 10³ to 10⁴ updates with all nine variants",
          judges_fraction.trains_alike),
    Claim("2 left", "regularizers", "some without noise",
          "Some generalisation happens in full batches and without noise, with much data",
          judges_fraction.some_without_noise),
    Claim("2 left", "regularizers", "noise helps",
          "Some noise in the optimisation helps",
          judges_fraction.noise_helps),
    Claim("2 left", "regularizers", "rate: one decade",
          "The learning rate has to lie within about one order of magnitude",
          judges_fraction.rate_within_a_decade),
    Claim("3", "embeddings", "cosets",
          "Output rows of some networks of S5 gather in cosets of a subgroup",
          judges_networks.shows_cosets),
    Claim("3", "embeddings", "circle",
          "Output rows of some networks of x + y lie on a circle, a number line of steps s",
          judges_networks.shows_a_line),
    Claim("3", "embeddings", "step by network",
          "Networks order the residues idiosyncratically, each by its own step (8 in the paper's picture)",
          judges_networks.steps_differ),
    Claim("3", "embeddings", "clearer by decay",
          "Weight decay makes the structure clearer",
          judges_networks.clearer_with_decay),
    Claim("6", "outliers", "1000 lies: fine",
          "Up to 1000 false answers hardly matter",
          judges_networks.few_hardly_matter),
    Claim("6", "outliers", "more lies hurt",
          "More than 1000 false answers hurt badly",
          judges_networks.many_hurt),
    Claim("6", "outliers", "all learnt",
          "Training accuracy still reaches 100%",
          judges_networks.all_is_learnt_by_heart),
    Claim("A.5", "sharpness", "sharp is worse",
          "Sharper minima have lower validation accuracy: ρ near -0.795",
          judges_networks.sharper_is_worse),
)


def load(experiment, profile="best", store=None):
    """What the store has of an experiment at a profile, as `Results`."""
    return stored(experiments.runs(experiment, experiments.scale(experiment, profile, store)), store)


def load_all(profile="best", store=None):
    """{experiment: what the store has of it}, for all that claims stand on."""
    return {name: load(name, profile, store) for name in dict.fromkeys(claim.experiment for claim in CLAIMS)}


def together(loaded):
    """All the runs of `load_all` as one `Results`, each once: of several answers by one run the longest."""
    histories = sorted((history for results in loaded.values() for history in results), key=lambda h: h.last_step)
    found = {history.spec.key: history for history in histories}
    specs = {spec.key: spec for results in loaded.values() for spec in results.specs}
    return Results(found.values(), specs.values())


def judge_all(loaded):
    """{claim: judgement}, in the order of `CLAIMS`, of what `load_all` gave."""
    return {claim: claim.judge(loaded[claim.experiment]) for claim in CLAIMS}


def as_table(judged):
    """The scorecard of `judge_all`'s judgements, a pandas table: figure, claim, how it is tested, verdict, our number,
    runs, what is lacking, notebook."""
    import pandas as pd
    return pd.DataFrame([{"figure": claim.figure, "claim": claim.sentence, "reproduced if; partly if": claim.test,
                          "verdict": its.verdict, "ours": its.so_far or "-" if its.verdict == WAITING else its.number,
                          "runs": "-" if its.verdict == WAITING else its.n,
                          "lacking": its.number if its.verdict == WAITING else "", "notebook": claim.notebook}
                         for claim, its in judged.items()])


def counted(verdicts):
    """'2 reproduced, 1 not', in the order of `VERDICTS`; '-' for none."""
    counts = collections.Counter(verdicts)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]) or "-"
