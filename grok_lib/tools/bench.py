"""How fast the engine is, against a textbook loop and the device's own matmul rate: `python -m grok_lib bench`.

Everything is measured in one process: medians of repeated windows, none of which holds an evaluation, with the spread
of their middle half. Each window comes right after one of the textbook loop, and a ratio is the median of such pairs: a
shared machine may change its speed from one row to the next, and no ratio with it.
"""

import dataclasses
import math
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from grok_lib import data, graphs, training
from grok_lib.device import has_tf32, matmul_precision, resolve
from grok_lib.model import position_code
from grok_lib.operations import operation
from grok_lib.specs import RunSpec

WINDOWS, WINDOW = 7, 0.5  # how many windows, and how many seconds each at least

VARIANTS = {  # rows of their own: what costs more than the default
    "update noise": dict(weight_decay=0, update_noise=1.0),
    "weight noise": dict(weight_decay=0, weight_noise=0.01),
    "dropout": dict(weight_decay=0, dropout=0.1),
    "full batch": dict(weight_decay=0, full_batch=True),
    "not compiled": dict(steps=1),  # as short runs are: `fuse`
}


@dataclasses.dataclass
class Row:
    """One line of the table. A run-step is one update of one run; rates are per run-step."""

    name: str
    stack: int
    microseconds: float  # a run-step, median of the windows
    spread: float  # half the distance between the quartiles, as a share of the median
    run_steps_per_second: float
    ratio: float  # to the textbook loop right before: how many times as fast
    useful_gflops: float  # useful operations a second, in 1e9 (RunSpec.flops)
    share: float  # of the device's matmul rate, measured here
    peak_mib: float  # memory: of the device, or of this process so far on a CPU


class Textbook(nn.Module):
    """The paper's model as a good engineer writes it: all four positions, torch's own attention."""

    def __init__(self, spec):
        super().__init__()
        D, self.heads = spec.width, spec.heads
        self.embedding = nn.Embedding(spec.vocabulary, D)
        self.register_buffer("place", torch.tensor(position_code(4, D), dtype=torch.float32))
        self.blocks = nn.ModuleList(nn.ModuleDict({
            "qkv": nn.Linear(D, 3 * D, bias=False), "out": nn.Linear(D, D, bias=False), "norm1": nn.LayerNorm(D),
            "mlp": nn.Sequential(nn.Linear(D, 4 * D, bias=False), nn.ReLU(), nn.Linear(4 * D, D, bias=False)),
            "norm2": nn.LayerNorm(D)}) for _ in range(spec.layers))
        self.output = nn.Linear(D, spec.vocabulary, bias=False)

    def forward(self, tokens):  # (B, T)
        h = self.embedding(tokens) + self.place
        for block in self.blocks:
            q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in block["qkv"](h).chunk(3, -1))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            h = block["norm1"](h + block["out"](mixed))
            h = block["norm2"](h + block["mlp"](h))
        return self.output(h[:, -1])


def textbook_loop(spec, device):
    """A function that trains the textbook model for so many updates, data on the device, batches of a fresh
    permutation."""
    model = Textbook(spec).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, betas=(spec.beta1, spec.beta2),
                                  weight_decay=spec.weight_decay)
    equations = torch.tensor(operation(spec.operation, spec.modulus).equations[data.split(spec)[0]], device=device)
    symbols = torch.full((len(equations), 1), spec.vocabulary - 2, device=device)
    tokens = torch.cat([equations[:, :1], symbols, equations[:, 1:2], symbols + 1], 1)

    def updates(count):
        order = torch.cat([torch.randperm(len(tokens), device=device)
                           for _ in range(math.ceil(count * spec.batch / len(tokens)))])
        for batch in order[:count * spec.batch].split(spec.batch):
            loss = F.cross_entropy(model(tokens[batch]), equations[batch, 2])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return updates


def engine_loop(specs, device):
    """The same for a stack of the engine's."""
    stack, done = training.open_stack(specs, device), [0]
    stack.fused &= specs[0].steps > 1  # though its form may be compiled by now

    def updates(count):
        training.advance(stack, done[0] + 1, done[0] + count)
        done[0] += count
    return updates


def matmul_rate(device, precision="fp32"):
    """The device's floating-point operations a second in a large square product, best of ten."""
    n = 8192 if device.type == "cuda" else 2048
    a, best = torch.randn(n, n, device=device), math.inf
    with matmul_precision(precision):
        for _ in range(10):
            best = min(best, _seconds(lambda: a @ a, device))
    return 2 * n**3 / best


def measure(stacks=None, device="auto", report=lambda row: None, spec=RunSpec(steps=1_000_000)):
    """All rows of the table, each handed to `report` as it is done: the textbook loop, the engine, its variants.

    `stacks`: sizes of stack; None for 1 and 8, on a GPU 64 and 256 as well, where they fit. Variants train in the
    largest that fits, full batches on a CPU alone. Ratios compare time for the same useful work, so that a full-batch
    update counts for the many that it is.
    """
    device = resolve(device)
    gpu = device.type == "cuda"
    stacks = stacks or ([R for R in (1, 8, 64, 256) if R <= training.most_at_once(device, spec)] if gpu else (1, 8))
    precisions = ("fp32", "tf32") if has_tf32(device) else ("fp32",)
    rates = {precision: matmul_rate(device, precision) for precision in precisions}
    jobs = [("engine" if p == "fp32" else f"engine, {p}", R, spec.but(precision=p)) for p in precisions for R in stacks]
    for name, knobs in VARIANTS.items():
        varied = spec.but(**knobs)
        most = 1 if varied.full_batch and not gpu else training.most_at_once(device, varied)
        jobs.append((f"engine, {name}", min(max(stacks), most), varied))
    textbook = _window(textbook_loop(spec, device), device)
    rows = [_row("textbook loop", 1, spec, spec, textbook, textbook, rates, device, 0)]
    rows[0].ratio = 1.0  # as a median of pairs it would be nearly so
    report(rows[0])
    for name, R, one in jobs:
        if gpu:
            torch.cuda.reset_peak_memory_stats(device)
        window = _window(engine_loop([one.but(seed=s) for s in range(R)], device), device)
        rows.append(_row(name, R, one, spec, window, textbook, rates, device, _peak_mib(device)))
        del window  # and its stack, before the next one
        report(rows[-1])
    return rows


def _row(name, R, one, spec, window, textbook, rates, device, peak):
    """A `Row` of pairs of windows, each after one of the textbook loop. `peak`: MiB that opening it took: of a captured
    update's memory nothing is asked for when it is replayed."""
    pairs = []
    for _ in range(WINDOWS):
        beside = textbook()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        pairs.append((window() / R, beside))
        peak = max(peak, _peak_mib(device))
    times = [own for own, _ in pairs]
    each, quartiles = statistics.median(times), statistics.quantiles(times, n=4)
    ratio = statistics.median(beside / own for own, beside in pairs) * one.flops / spec.flops
    return Row(name, R, each * 1e6, (quartiles[2] - quartiles[0]) / 2 / each, 1 / each, ratio, one.flops / each / 1e9,
               one.flops / each / rates[one.precision], peak)


HEADER = (f"{'':21} {'runs':>5} {'µs/run-step':>12} {'spread':>7} {'run-steps/s':>12} "
          f"{'ratio':>6} {'GFLOP/s':>8} {'of matmul':>9} {'peak MiB':>9}")


def line(row):
    """A row as a line of the table under `HEADER`."""
    return (f"{row.name:21} {row.stack:5} {row.microseconds:12,.0f} {row.spread:7.0%} "
            f"{row.run_steps_per_second:12,.1f} {row.ratio:6.2f} {row.useful_gflops:8,.0f} {row.share:9.0%} "
            f"{row.peak_mib:9,.0f}")


def _window(updates, device):
    """A function that times one window of `updates`: seconds an update. What has to be done once is done before the
    first."""
    few = 3 if device.type == "cpu" else graphs.WARM + graphs.LONG + 1  # all graphs are captured in the first of them
    updates(few)
    count = max(1, math.ceil(WINDOW * few / max(_seconds(lambda: updates(few), device), 1e-9)))
    return lambda: _seconds(lambda: updates(count), device) / count


def _peak_mib(device):
    """The most memory that the device has given since it was last asked, or this process has had on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # Bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def _seconds(work, device):
    """Wall time of `work()`, until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
