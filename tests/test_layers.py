"""The written-out gradients, against autograd of the plain formula."""

import pytest
import torch

from grok_lib.layers import MLP, Linear, Take


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)),
                       requires_grad=True)


def assert_same(ours, plain, inputs):
    """Equal values, and equal gradients of a lopsided sum of them."""
    torch.testing.assert_close(ours, plain, atol=1e-12, rtol=1e-12)
    weights = torch.arange(plain.numel(), dtype=plain.dtype).view_as(plain).sin()
    for a, b in zip(torch.autograd.grad((ours * weights).sum(), inputs),
                    torch.autograd.grad((plain * weights).sum(), inputs)):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("R", [1, 3])
def test_linear_is_a_matrix_product_per_run(R):
    h, w = random(R, 7, 4), random(R, 5, 4)
    assert_same(Linear.apply(h, w), torch.einsum("rmi,roi->rmo", h, w), (h, w))


@pytest.mark.parametrize("R", [1, 3])
def test_mlp_is_two_linear_layers_with_relu_between(R):
    h, w_in, w_out = random(R, 7, 4), random(R, 16, 4), random(R, 4, 16)
    plain = torch.einsum("rmf,rdf->rmd", torch.einsum("rmd,rfd->rmf", h, w_in).relu(), w_out)
    assert_same(MLP.apply(h, w_in, w_out), plain, (h, w_in, w_out))


@pytest.mark.parametrize("R", [1, 3])
def test_take_picks_rows_and_sends_their_gradients_back_also_for_rows_picked_twice_or_never(R):
    rows, index = random(R, 6, 4), (torch.tensor([[0, 5, 5, 2, 0]]) if R == 1
                                    else torch.tensor([[0, 5, 5, 2, 0], [1] * 5, [4, 3, 2, 1, 0]]))
    picks = torch.nn.functional.one_hot(index, 6).double()
    plain = torch.stack([rows[r][index[r]] for r in range(R)])
    assert_same(Take.apply(rows, index, picks), plain, (rows,))
