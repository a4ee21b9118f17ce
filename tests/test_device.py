"""Where training happens: the device that "auto" finds, and how much of a machine a container may use."""

import math

import pytest
import torch

from grok_lib import device


@pytest.fixture(autouse=True)
def forget():
    device._gpu_works.cache_clear()
    yield
    device._gpu_works.cache_clear()


def test_a_gpu_for_which_pytorch_has_no_kernels_is_not_used_which_is_said_once(monkeypatch, capsys):
    def old(where):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore lines")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "_try", old)
    assert device.resolve("auto") == device.resolve("auto") == torch.device("cpu")
    assert capsys.readouterr().out == (
        "the GPU is not used (CUDA error: no kernel image is available for execution on the device)\n")
    with pytest.raises(ValueError, match="device='cuda' is not to be had .*no kernel image"):
        device.resolve("cuda")


def test_a_gpu_that_is_full_is_not_taken_for_one_that_cannot_be_used(monkeypatch):
    def full(where):
        raise torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "_try", full)
    with pytest.raises(MemoryError, match="no room on the GPU"):
        device.resolve("auto")


@pytest.mark.parametrize("text, processors", [("200000 100000", 2), ("150000 100000", 2), ("max 100000", math.inf),
                                              ("", math.inf), (None, math.inf)])
def test_a_containers_quota_of_processors_is_read(tmp_path, text, processors):
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert device.quota(tmp_path / "cpu.max") == processors
