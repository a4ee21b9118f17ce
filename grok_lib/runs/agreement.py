"""Do two histories tell of one training? Their first losses say so, whatever trained them. No torch.

The loss before any update shows the split and the initial weights, those after it the order of the batches, the noise
and the optimiser; later than that, rounding grows and only distributions can be compared.
"""

import numpy as np

UPDATES = 30  # in which two histories of one run agree
TOLERANCE = {"fp32": 1e-4, "float64": 1e-6, "tf32": 1e-2}  # by which their losses may differ until then, in nats


def early(one, other):
    """Of two histories of one run: the updates up to `UPDATES` that both evaluated (E,), their training and validation
    losses (2, 2, E), how far apart they are (2, E)."""
    common = np.intersect1d(one.step[one.step <= UPDATES], other.step)
    losses = np.array([np.array([h.train_loss, h.val_loss], np.float64)[:, np.isin(h.step, common)]
                       for h in (one, other)])
    with np.errstate(invalid="ignore"):
        same = (losses[0] == losses[1]) | np.isnan(losses).all(0)
        return common, losses, np.where(same, 0, np.abs(losses[0] - losses[1]))


def disagreement(stored, here):
    """Where two histories of one run first differ by more than `TOLERANCE`, in words; "" where they agree."""
    common, losses, apart = early(stored, here)
    wrong = np.argwhere(~(apart <= TOLERANCE[stored.spec.precision]).T)
    if not len(wrong):
        return ""
    at, curve = wrong[0]
    theirs, ours = losses[:, curve, at]
    return f"{('training', 'validation')[curve]} loss at update {common[at]}: stored {theirs:.6g}, here {ours:.6g}"
