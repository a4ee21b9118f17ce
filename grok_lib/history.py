"""What comes back from a run (`History`), when it is looked at, and when it is done."""

import dataclasses
import math

import numpy as np

from grok_lib.specs import RunSpec

# What `keep` can ask for besides weights, as float32 arrays (`measures` computes them):
MEASURES = {
    "sharpness": "(3,), where training ended: Keskar's sharpness and the authors' figure, both in per cent, "
                 "and the norm of the weights",
    "saturation": "(E, 2): the share of training equations whose loss is exactly 0, "
                  "and of those that give no logit any gradient",
}


@dataclasses.dataclass
class History:
    """What one run did. Arrays are over the E evaluated updates; accuracies in 0..1, losses in nats."""

    spec: RunSpec  # what was asked for
    step: np.ndarray  # int64 (E,): 0 is the start, before any update
    train_loss: np.ndarray  # float32 (E,), mean over the whole training set
    train_accuracy: np.ndarray
    val_loss: np.ndarray
    val_accuracy: np.ndarray
    stopped_because: str = "budget"  # or "solved", "diverged"; "running" while it trains
    # name -> float32 array: weights after `last_step`, or one of MEASURES
    kept: dict = dataclasses.field(default_factory=dict)
    provenance: dict = dataclasses.field(default_factory=dict)  # device, versions, precision, stack size, ...
    # While it trains: all that its next update needs, and the number of its last
    state: dict = dataclasses.field(default_factory=dict)

    CURVES = ("step", "train_loss", "train_accuracy", "val_loss", "val_accuracy")

    @property
    def last_step(self):
        """The last evaluated update: for a run that has ended, the one at which it did."""
        return int(self.step[-1])

    def answer(self, spec):
        """This history as the answer to `spec`: cut at its last evaluation within that run's updates; None if it does
        not hold all of that run.

        It must be the same trajectory, go far enough (to the budget, or the solution if `spec` stops there), and
        have kept what is asked for at that very update. The answer's seconds are cut in proportion to its updates.
        """
        if self.spec.key != spec.key:
            return None
        solved = self.step[is_solved(spec, self.train_accuracy, self.val_accuracy) & (self.step <= spec.steps)]
        if len(solved):
            end, why = int(solved[0]), "solved"
        elif self.stopped_because == "diverged" and self.last_step <= spec.steps:
            end, why = self.last_step, "diverged"
        elif self.last_step >= spec.steps:
            end, why = spec.steps, "budget"
        else:
            return None
        kept = self.kept if end == self.last_step else {}
        if not set(spec.keep) <= set(kept):
            return None
        inside = self.step <= end
        curves = {name: getattr(self, name)[inside] for name in self.CURVES}
        facts = {name: value * (end / self.last_step) if name == "seconds" and end else value
                 for name, value in self.provenance.items()}
        return dataclasses.replace(self, spec=spec, stopped_because=why, **curves, provenance=facts,
                                   kept={name: kept[name] for name in spec.keep})


def is_solved(spec, train_accuracy, val_accuracy):
    """Whether a run with these accuracies has nothing left to gain, and `spec` wants to stop there; elementwise.

    Best validation accuracy cannot rise above 100%; 99% of the training set is asked for too, or all of it where
    there are outliers to be learnt by heart.
    """
    enough = np.float32(1.0 if spec.outliers else 0.99)
    return (spec.stop == "solved") & (val_accuracy == 1) & (train_accuracy >= enough)


def evaluation_steps(budget):
    """The updates after which everything is evaluated: 10 a decade below 1,000, 40 a decade above, 0 and the last."""
    below = 10 ** (np.arange(0, 31) / 10)
    above = 10 ** (np.arange(121, 40 * max(4, math.ceil(math.log10(max(budget, 1)))) + 1) / 40)
    steps = np.unique(np.concatenate([[0], np.round(below), np.round(above), [budget]]).astype(np.int64))
    return steps[steps <= budget]
