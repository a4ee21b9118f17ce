"""Tests use one thread: their tensors are small, and a machine busy with other things must not slow them."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def closed_figures():
    """For tests that draw: without a window, and nothing left open."""
    import matplotlib.pyplot as plt
    plt.switch_backend("agg")
    yield
    plt.close("all")
