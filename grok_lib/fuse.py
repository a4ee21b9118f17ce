"""Fewer passes over memory: what `fused` marks is compiled by torch (torch.compile) into few kernels, inside `fusing`.

Between its matrix products an update waits for memory, not for arithmetic, so the updates of long runs are fused; for
short ones it does not pay, as compiling takes half a minute or more at first (torch keeps what it compiled in
build/compiled/HOST, or $TORCHINDUCTOR_CACHE_DIR). Where it cannot be done, as without a C++ compiler (on a GPU Triton
and a C compiler), one line on stdout says so and all goes on without.
"""

import contextlib
import functools
import os
import platform

import torch
from torch.utils._pytree import tree_leaves

from grok_lib import paths
from grok_lib.device import out_of_memory
from grok_lib.specs import RunSpec

WHOLE = ("cuda",)  # devices on which forward and backward pass are one compiled form
# Run-steps of the paper's ordinary kind beyond which compiling pays: on each an H200 saved 54 µs in a stack of 64, 233
# in one of 3, 126 alone (a compromise)
LONG = {"cpu": 100_000, "cuda": 400_000}
SECONDS = {"cpu": 40, "cuda": 60}  # that it takes at first


class State:
    """Whether to fuse now, whether this machine has refused (said once, and not tried again), and what is compiled."""

    active = refused = False
    # forms: for which stacks, where forward and backward are one; on a CPU one serves nearly all
    compiled, forms = {}, set()


def pays(specs, device, form=None):
    """Whether the updates of a stack of these runs are worth compiling for; they are where their `form` is compiled
    already."""
    return form in State.forms or sum(spec.work for spec in specs) >= LONG[device.type] * RunSpec().flops


@contextlib.contextmanager
def fusing(wanted):
    """Inside, `fused` functions are compiled where that is `wanted`."""
    if not wanted or State.refused:
        yield
        return
    # A folder for each machine: what one compiled may hold instructions that another one lacks
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(paths.build() / "compiled" / platform.node()))
    import torch._dynamo
    # 8 and 256 otherwise; but there are one run or many, tables, precisions, numbers of positions
    with torch._dynamo.config.patch(recompile_limit=256, accumulated_recompile_limit=1024):
        State.active = True
        try:
            yield
        finally:
            State.active = False


def fused(function=None, whole=False):
    """Marks a function of tensors (R, ...), in lists or dicts or not, and plain values. One compiled form serves any
    number of runs from two on.

    All sizes but the last (with `whole`, only R) are left open, for any number of rows. On a CPU, whose caches the
    products are cut for, only what lies between them is compiled. `whole`: of a function that holds products and such
    functions, on a GPU all is compiled as one.
    """
    if function is None:
        return functools.partial(fused, whole=whole)

    @functools.wraps(function)
    def either(*arguments):
        if torch.compiler.is_compiling() or not State.active:
            return function(*arguments)
        tensors = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]
        if whole and tensors[0].device.type not in WHOLE:
            return function(*arguments)
        for tensor in tensors:
            torch._dynamo.maybe_mark_dynamic(tensor, [0] if whole else list(range(max(1, tensor.ndim - 1))))
        if function not in State.compiled:
            State.compiled[function] = torch.compile(function, fullgraph=True)
        return State.compiled[function](*arguments)
    return either


def attempt(step):
    """`step()`; where something in it cannot be compiled, once more without: until all is compiled, a step changes
    nothing."""
    try:
        return step()
    except Exception as error:
        if (not State.active or out_of_memory(error)
                or torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
            raise
        State.active, State.refused = False, True
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        reason += "; a space in PyTorch's path, which its compiling does not bear" if " " in torch.__file__ else ""
    print(f"nothing is compiled here, updates go on without ({reason})", flush=True)
    return step()
