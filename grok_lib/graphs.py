"""Many updates at one call: on a GPU whole updates are captured in CUDA graphs and replayed, so that no host keeps it
waiting.

A captured step must find everything on the device, in the same place each time, and leave its results there.
`tests/test_capture.py` holds training's step to that without a GPU.
"""

import functools

import torch

from grok_lib.device import out_of_memory

WARM = 3  # updates done one by one before any is captured: libraries load, choose their kernels and take their memory
LONG = 8  # updates in the longer of the two graphs; the shorter has one


class Repeat:
    """repeat(step, times) calls `step()` that many times, or has a graph of it do the same.

    It belongs to one step on one set of tensors: another stack needs another. Where capture fails, one line on
    stdout says so and all goes on without it.
    """

    refused = False  # by this machine: said once, and not tried again

    def __init__(self, device):
        self.capturer, self.warm, self.replay = capturer(device), WARM, {}

    def __call__(self, step, times):
        while times:
            many = LONG if times >= LONG and not self.warm else 1
            if self.capturer is None or Repeat.refused:
                many = 1
                step()
            elif self.warm:
                self.warm -= 1
                self.capturer.warm_up(step)
            elif many in self.replay or self._captured(step, many):
                self.replay[many]()
            else:
                continue  # without graphs
            times -= many
        if self.capturer is not None:
            self.capturer.keep_pace()

    def _captured(self, step, many):
        """Whether there is a graph of that many updates now. Raises where there is no memory for it."""
        try:
            self.replay[many] = self.capturer.capture(step, many)
        except RuntimeError as error:
            # No name may hold the error any longer than this: its traceback holds the stack, and so its memory
            if out_of_memory(error):
                raise
            if out_of_memory(error.__context__):  # to leave a capture that has failed may fail as well
                raise error.__context__ from None
            Repeat.refused = True
            print(f"no CUDA graphs here, updates are launched one by one ({str(error).splitlines()[0]})", flush=True)
        return not Repeat.refused


def capturer(device):
    """What captures on this device; None where steps are simply called."""
    return CudaGraphs(device) if device.type == "cuda" else None


class CudaGraphs:
    """CUDA graphs of a step. They share their memory: nothing in it outlives a step, and they never run at once."""

    def __init__(self, device):
        self.device, self.stream, self.pool, self.latest = (
            device, _side_stream(device), torch.cuda.graph_pool_handle(), None)

    def warm_up(self, step):
        """`step()`, on the stream that will capture it."""
        usual = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(usual)
        try:
            with torch.cuda.stream(self.stream):
                step()
        finally:
            usual.wait_stream(self.stream)

    def capture(self, step, times):
        """A function that does what `times` calls of `step` do; capturing itself does nothing to the step's tensors."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self.stream), torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            for _ in range(times):
                step()
        return graph.replay

    def keep_pace(self):
        """Wait until the device has done what it had been given when this was last called: else updates pile up unseen,
        and progress, the time left and Ctrl-C are about what it has been told to do, not about what it has done."""
        before, self.latest = self.latest, torch.cuda.Event()
        self.latest.record(torch.cuda.current_stream(self.device))
        if before is not None:
            before.synchronize()


@functools.cache  # one for all: cuBLAS keeps working memory for every stream that it has seen
def _side_stream(device):
    return torch.cuda.Stream(device)


def rung(count):
    """The smallest number >= count on the ladder 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: powers of two, and halfway between
    them."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 else power
