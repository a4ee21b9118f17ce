"""The device that a stack trains on: which one, its name, its precision, and what a history says of it."""

import contextlib
import functools
import math
import os
import platform
import re
import subprocess
from pathlib import Path

import numpy as np
import torch

from grok_lib import paths


def quota(file="/sys/fs/cgroup/cpu.max"):
    """How many processors' time a container is given (Linux, cgroup v2: microseconds of each period), infinity where
    there is no such limit."""
    try:
        share, period = map(int, Path(file).read_text().split())
        return math.ceil(share / period)
    except (OSError, ValueError):  # "max 100000"
        return math.inf


if "OMP_NUM_THREADS" not in os.environ and quota() < torch.get_num_threads():
    # Torch itself starts a thread for each processor of the host, and they would wait for each other
    torch.set_num_threads(quota())


def resolve(device):
    """The torch device that a name such as "auto" means. Raises ValueError where there is no such device."""
    if device == "auto":
        return torch.device("cuda" if _gpu_works() else "cpu")
    try:
        if str(device).split(":")[0] not in ("cpu", "cuda"):  # torch has twenty kinds
            raise RuntimeError("neither cpu nor cuda")
        device = torch.device(device)
        _try(device)
        return device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={str(device)!r} is not to be had ({str(error).splitlines()[0]}): "
                         "use 'auto' or 'cpu'") from None


@functools.cache
def _gpu_works():
    """Whether there is a GPU, and this PyTorch has kernels for it, as it has none for old ones: that is said, once."""
    try:
        return torch.cuda.is_available() and _try("cuda")
    except RuntimeError as error:
        if out_of_memory(error):
            raise MemoryError("no room on the GPU: free some, or name another device (cpu)") from error
        print(f"the GPU is not used ({str(error).splitlines()[0]})", flush=True)
        return False


def _try(device):
    return float(torch.ones(1, device=device).add(1)) == 2  # starts a kernel, and waits for it


def device_name(device):
    """A name for people: the GPU's, or the processor's and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        cpu = re.search("model name.*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):  # not Linux, or a processor that gives no name
        asked = (subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
                 if platform.system() == "Darwin" else None)
        cpu = asked and asked.stdout.strip() or platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{cpu.removesuffix(' Processor')} CPU, {threads} thread{'s' if threads > 1 else ''}"


def has_tf32(device):
    """Whether it multiplies matrices in TF32: GPUs of compute capability 8 and newer do."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def free_memory(device):
    """Bytes of a GPU's memory that a new stack could have: what nobody holds, and what torch holds without using it."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def out_of_memory(error):
    """Whether an error says that memory did not suffice: torch's own on a GPU or a processor, CUDA's, or cuBLAS's."""
    words = ("out of memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error).lower() for word in words)


def provenance(device, precision):
    """What a history says of its making, besides the size of its stack and how long it took."""
    return {"device": device_name(device), "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version(), "precision": precision, "git_revision": paths.git_revision()}


@contextlib.contextmanager
def matmul_precision(precision):
    """TF32 in matrix products exactly when the spec asks for it; the setting before is restored."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


@contextlib.contextmanager
def subnormals_as_zero(device):
    """On a CPU: numbers under 1.2e-38 count as 0 inside. A processor takes some 30 times as long for an operation on
    them.

    Without weight decay most gradients, and Adam's averages of them, come to lie there; an update of 1e-38 moves no
    weight. The setting before is restored in the calling thread; threads that torch starts inside keep this one, older
    ones never have it.
    """
    before = bool(torch.tensor([1e-20]).square() == 0)
    torch.set_flush_denormal(before or device.type == "cpu")
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
