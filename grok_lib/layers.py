"""The pieces of the fast forward pass whose gradients are written out by hand, because autograd's own cost more.

Each is exact, and tested against autograd of the plain formula. Matrices are (R, out, in), as in nn.Linear.
"""

import torch


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


def mlp(h, w_in, w_out):
    """relu(h w_in') w_out': h (R, m, D), w_in (R, F, D), w_out (R, D, F) -> (R, m, D)."""
    if h.device.type == "cpu" and not torch.compiler.is_compiling():
        return MLP.apply(h, w_in, w_out)
    return Linear.apply(Linear.apply(h, w_in).relu(), w_out)


class MLP(torch.autograd.Function):
    """`mlp` for a CPU's caches, which hold one run's hidden layer.

    The hidden layer (R, m, F) is the largest thing in the model: ReLU works in place both ways, and the layer's
    gradient never leaves the cache.
    """

    @staticmethod
    def forward(ctx, h, w_in, w_out):
        hidden, out = h.new_empty(*h.shape[:2], w_in.shape[1]), torch.empty_like(h)
        for r in range(len(h)):
            torch.mm(h[r], w_in[r].T, out=hidden[r]).relu_()
            torch.mm(hidden[r], w_out[r].T, out=out[r])
        ctx.save_for_backward(h, w_in, w_out, hidden)
        return out

    @staticmethod
    def backward(ctx, g):
        h, w_in, w_out, hidden = ctx.saved_tensors
        grads = [torch.empty_like(t) for t in (h, w_in, w_out)]
        g_hidden = torch.empty_like(hidden[0])
        for r in range(len(h)):
            torch.mm(g[r], w_out[r], out=g_hidden)
            torch.ops.aten.threshold_backward.grad_input(g_hidden, hidden[r], 0, grad_input=g_hidden)
            torch.mm(g_hidden, w_in[r], out=grads[0][r])
            torch.mm(g_hidden.T, h[r], out=grads[1][r])
            torch.mm(g[r].T, hidden[r], out=grads[2][r])
        return tuple(grads)


class Take(torch.autograd.Function):
    """rows (R, m, D) picked by index (R, B) -> (R, B, D).

    Backward is a product with the one-hot `picks` (R, B, m): on a GPU a scatter would add in no fixed order.
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
