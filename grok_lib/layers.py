"""The pieces of the fast forward pass whose gradients are written out, because autograd's own cost more.

Each is exact, and tested against autograd of the plain formula. Matrices are (R, out, in), as in nn.Linear.
"""

import torch


def _slices(R, device):
    """Runs to work on together: all on a GPU; one by one on a CPU, whose caches hold one run's hidden layer."""
    return [slice(r, r + 1) for r in range(R)] if device.type == "cpu" else [slice(0, R)]


class Linear(torch.autograd.Function):
    """h (R, m, in), w (R, out, in) -> (R, m, out). Its weight gradient comes out in the weight's own layout."""

    @staticmethod
    def forward(ctx, h, w):
        ctx.save_for_backward(h, w)
        return h @ w.transpose(1, 2)

    @staticmethod
    def backward(ctx, g):
        h, w = ctx.saved_tensors
        return g @ w, g.transpose(1, 2) @ h


class MLP(torch.autograd.Function):
    """relu(h w_in') w_out': h (R, m, D), w_in (R, F, D), w_out (R, D, F) -> (R, m, D).

    The hidden layer (R, m, F) is the largest thing in the model: ReLU and its gradient work in place, and on a
    CPU its gradient never leaves the cache.
    """

    @staticmethod
    def forward(ctx, h, w_in, w_out):
        hidden, out = h.new_empty(*h.shape[:2], w_in.shape[1]), torch.empty_like(h)
        for s in _slices(len(h), h.device):
            torch.bmm(h[s], w_in[s].transpose(1, 2), out=hidden[s]).relu_()
            torch.bmm(hidden[s], w_out[s].transpose(1, 2), out=out[s])
        ctx.save_for_backward(h, w_in, w_out, hidden)
        return out

    @staticmethod
    def backward(ctx, g):
        h, w_in, w_out, hidden = ctx.saved_tensors
        grads = [torch.empty_like(t) for t in (h, w_in, w_out)]
        slices = _slices(len(h), h.device)
        g_hidden = torch.empty_like(hidden[slices[0]])
        for s in slices:
            torch.bmm(g[s], w_out[s], out=g_hidden)
            torch.ops.aten.threshold_backward.grad_input(g_hidden, hidden[s], 0, grad_input=g_hidden)
            torch.bmm(g_hidden, w_in[s], out=grads[0][s])
            torch.bmm(g_hidden.transpose(1, 2), h[s], out=grads[1][s])
            torch.bmm(g[s].transpose(1, 2), hidden[s], out=grads[2][s])
        return tuple(grads)


class Take(torch.autograd.Function):
    """rows (R, m, D) picked by index (R, B) -> (R, B, D).

    Backward is a product with the one-hot `picks` (R, B, m): a scatter would add in an order of its own on a GPU.
    """

    @staticmethod
    def forward(ctx, rows, index, picks):
        ctx.save_for_backward(picks)
        R, m, D = rows.shape
        flat = (index + m * torch.arange(R, device=index.device)[:, None]).flatten()
        return rows.reshape(R * m, D).index_select(0, flat).view(R, -1, D)

    @staticmethod
    def backward(ctx, g):
        picks, = ctx.saved_tensors
        return picks.transpose(1, 2) @ g, None, None
