"""Tests use one thread: their tensors are small, and a machine busy with other things must not slow them."""

import torch

torch.set_num_threads(1)
