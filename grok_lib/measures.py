"""What is measured on a stack besides its curves, where a spec's `keep` asks for it: see `history.MEASURES`."""

import numpy as np
import torch

from grok_lib import data, engine, model, sharpness as sharpness_

TOGETHER = 2500  # equations of a run in one pass
RUNS_TOGETHER = 16  # in float64 a run takes some 0.2 GB by its shapes, beside the stack that it comes from


@torch.no_grad()
def saturation(stack):
    """numpy (R, 2): the shares of training equations whose loss is exactly 0, and that give no logit any gradient.

    A float32 softmax rounds to 1 once the answer's logit is some 17 above all others: the loss is 0, and the answer is
    pulled no more. Where it is above them by some 104, the others underflow to 0 too, and the equation does nothing at
    all (Prieto et al. 2025, arXiv 2501.04697, "softmax collapse"). That is of one equation alone: in training its
    gradient is divided by the batch's size, and a CPU rounds to 0 sooner (`device.subnormals_as_zero`), so in a batch
    of 512 it is gone from some 81 on. The second share is the least.
    """
    counts = torch.zeros(len(stack.specs), 2, dtype=torch.float64, device=stack.weights.device)
    for logits, loss, answer, is_train, _ in engine.whole_tables(stack):
        others = logits.to(loss.dtype).log_softmax(-1).scatter(-1, answer[..., None], -np.inf).amax(-1)
        kind = torch.finfo(loss.dtype)
        # The answer's gradient is 0 where its loss is; the others' where exp would give less than half of the smallest
        # subnormal number. As logarithms, for whether there are subnormal numbers hangs on the thread
        # (`device.subnormals_as_zero`).
        still = (loss == 0) & (others < np.log(kind.tiny) + np.log(kind.eps / 2))
        counts += (is_train & torch.stack([loss == 0, still])).sum(-1).T
    return (counts / stack.data.is_train.sum(1)[:, None]).cpu().numpy()


def sharpness(stack, rows):
    """numpy (len(rows), 3): Keskar's sharpness, the authors' figure (the module `sharpness` has both) and the norm of
    the weights.

    On the whole training set, in float64 whatever the run's own precision: the box is small, and so are the
    differences.
    """
    return np.concatenate([_sharpness(stack, rows[at:at + RUNS_TOGETHER]) for at in range(0, len(rows), RUNS_TOGETHER)])


def _sharpness(stack, rows):
    rows = torch.tensor(rows, device=stack.weights.device)
    weights, some = stack.weights[rows].double(), stack.data.rows(rows)
    specs = [stack.specs[r] for r in rows.tolist()]
    bases = np.stack([sharpness_.subspace(spec.seed, weights.shape[1]) for spec in specs])
    both = sharpness_.sharpness(lambda points: training_loss(specs[0], some, points), weights.cpu().numpy(), bases)
    return np.concatenate([both, weights.norm(dim=1, keepdim=True).cpu().numpy()], 1)


def sharpness_of(history, seed=None, epsilon=1e-3):
    """Keskar's sharpness and the authors' figure, float64 (2,), of a run all of whose weights were kept:
    `keep=tuple(model.parameter_shapes(spec))`.

    `seed` of the subspace; None for the run's own. A large table takes a minute on a CPU.
    """
    spec, names = history.spec, model.parameter_shapes(history.spec)
    if lacking := names.keys() - history.kept.keys():
        raise ValueError(f"the run has not kept {', '.join(sorted(lacking))}: "
                         "train it with keep=tuple(model.parameter_shapes(spec))")
    weights = np.concatenate([history.kept[name].ravel() for name in names])[None]
    basis, some = (sharpness_.subspace(spec.seed if seed is None else seed, weights.shape[1]),
                   data.load([spec], torch.device("cpu")))
    return sharpness_.sharpness(lambda points: training_loss(spec, some, points), weights, basis[None], epsilon)[0]


def training_loss(spec, data_, points):
    """The mean loss over each run's training set at other weights, and its gradient: numpy (R, P) -> (R,), (R, P),
    float64."""
    flat = torch.as_tensor(points, dtype=torch.float64, device=data_.x.device)
    leaves = {name: view.detach().requires_grad_() for name, view in model.unpack(flat, spec).items()}
    total, grads, sizes = (torch.zeros(len(flat), dtype=torch.float64, device=flat.device), torch.zeros_like(flat),
                           data_.sizes_there[..., 0])
    for at in range(0, data_.train.shape[1], TOGETHER):
        chosen = data_.train[:, at:at + TOGETHER]
        x, y, answer = data.pick(data_, chosen)
        shares = (at + torch.arange(chosen.shape[1], device=flat.device) < sizes) / sizes.double()
        loss = (engine.losses(engine.answer_logits(leaves, x, y, spec), answer, spec.loss_precision) * shares).sum(1)
        grads += torch.cat([g.flatten(1) for g in torch.autograd.grad(loss.sum(), list(leaves.values()))], 1)
        total += loss.detach()
    return total.cpu().numpy(), grads.cpu().numpy()
