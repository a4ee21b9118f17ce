"""An update can be captured and replayed: nothing of it is read back, comes from the host, or hangs on its number.

There need be no GPU: a `Tape` writes down every operation of an update, which is what a CUDA graph holds of it, and
plays them again on the same tensors.
"""

import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from grok_lib import data, engine, graphs, model, optim, training
from grok_lib.runs import estimate
from grok_lib.specs import RunSpec

TINY = RunSpec(modulus=11, width=16, heads=2, steps=45)
CPU = torch.device("cpu")
TENSOR = torch.Tensor

STACKS = {  # Figure 2 (left), and a stack of all that can be beside one another
    "plain": [{}],
    "decay towards the start": [{}, dict(decay_to="init")],
    "update noise": [{}, dict(update_noise=1.0, weight_decay=0)],
    "weight noise": [dict(weight_noise=0.01)],
    "dropout": [dict(dropout=0.1), dict(dropout=0.5)],
    "full batch": [dict(full_batch=True)],
    "full batch, dropout and noise": [dict(full_batch=True, dropout=0.1, update_noise=0.1),
                                      dict(full_batch=True, dropout=0.2)],
    "as others build it": [dict(positions="learned", norm="pre", activation="gelu", biases=True),
                           dict(positions="learned", norm="pre", activation="gelu", biases=True, decay_by="gradient")],
    "<eos>, short last batch": [dict(eos=True, short_last_batch=True), dict(eos=True, short_last_batch=True)],
    "float64 loss": [dict(loss_precision="float64")],
    "mixed": [dict(decay_by="gradient"), dict(warmup=0), dict(update_noise=0.5, beta2=0.99),
              dict(weight_noise=0.1, steps=20), dict(decay_to="init", steps=32)],
}


def specs_of(name, **fields):
    """The runs of a stack, of different sizes."""
    return [TINY.but(seed=i, train_fraction=0.5 - 0.1 * i, **{**fields, **knobs})
            for i, knobs in enumerate(STACKS[name])]


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, TENSOR)]


def storage(t):
    return t.untyped_storage().data_ptr()


class Tape(TorchDispatchMode):
    """Every operation done while it runs: (operation, arguments, keywords, results)."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        self.operations.append((operation, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def play(self):
        """Do them all again, from and into the same memory."""
        for operation, args, kwargs, out in self.operations:
            for old, new in zip(tensors(out), tensors(operation(*args, **kwargs))):
                if storage(old) != storage(new):
                    old.copy_(new)

    def score(self):
        """The operations as plain data: numbers as they are, tensors by shape, place and who made them."""
        made = {}

        def described(t):
            return (tuple(t.shape), t.stride(), t.dtype, t.storage_offset(),
                    made.setdefault(storage(t), ("outside", storage(t))))
        lines = []
        for i, (operation, args, kwargs, out) in enumerate(self.operations):
            line = [str(operation), tree_map_only(TENSOR, described, (args, kwargs))]
            for j, t in enumerate(tensors(out)):
                made.setdefault(storage(t), ("made", i, j))
            lines.append([*line, tree_map_only(TENSOR, described, out)])
        return lines

    def assert_capturable(self):
        """No operation waits for a value, comes from the host, or has a shape that hangs on values."""
        for operation, args, kwargs, _ in self.operations:
            whole_numbers = all(t.dtype == torch.int64 for t in tensors(args[1:]))
            shape_is_known = operation is torch.ops.aten.index.Tensor and whole_numbers
            assert torch.Tag.data_dependent_output not in operation.tags, operation
            assert shape_is_known or torch.Tag.dynamic_output_shape not in operation.tags, operation
            assert "lift_fresh" not in str(operation) and kwargs.get("device") in (None, CPU), operation


class Taped:
    """Stands in for `graphs.CudaGraphs`: captures on a tape."""

    captured = paced = 0

    def warm_up(self, step):
        step()

    def keep_pace(self):
        Taped.paced += 1

    def capture(self, step, times):
        Taped.captured += 1
        done = [True]  # unlike a GPU's capture, taping has done the updates already
        with Tape() as tape:
            for _ in range(times):
                step()
        return lambda: done.pop() if done else tape.play()


def taped_update(stack, u):
    engine.look_up(stack, u, 1)
    with Tape() as tape:
        engine.step(stack)
    return tape


def check(stack):
    """Two updates, one in the warm-up, the other in a later epoch and another row: both capturable, and the same."""
    training.advance(stack, 1, 2)
    early = taped_update(stack, 3)
    training.advance(stack, 4, 25)
    engine.look_up(stack, 20, 10)  # the batches of updates 20 to 29, of which 26 is the seventh
    stack.u += 6
    stack.row += 6
    with Tape() as late:
        engine.step(stack)
    early.assert_capturable()
    assert early.score() == late.score()


def assert_same_bits(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.stopped_because == b.stopped_because
        for curve in a.CURVES:
            np.testing.assert_array_equal(getattr(a, curve), getattr(b, curve))
        for name in a.kept:
            np.testing.assert_array_equal(a.kept[name], b.kept[name])


# --- The update

@pytest.mark.parametrize("name", STACKS)
def test_an_update_waits_for_no_value_and_is_the_same_operations_with_the_same_numbers_each_time(name):
    check(engine.open_stack(specs_of(name), CPU))


def test_nor_does_a_full_batch_in_parts(monkeypatch):
    monkeypatch.setattr(engine, "PART", 20)
    check(engine.open_stack(specs_of("full batch, dropout and noise"), CPU))


count = itertools.count(1)
BAKED_IN = {
    "read from the device": lambda u: torch.full_like(u, int(u)),
    "a number": lambda u: torch.full_like(u, next(count)),
    "a tensor from the host": lambda u: torch.tensor([next(count)]),
    "an array from the host": lambda u: torch.from_numpy(np.array([next(count)])),
    "a shape that hangs on values": lambda u: u[u > 0],
}


@pytest.mark.parametrize("way", BAKED_IN)
def test_an_update_that_had_its_number_baked_in_would_be_found(way, monkeypatch):
    honest = optim.update
    monkeypatch.setattr(optim, "update", lambda weights, grads, state, knobs, u: honest(weights, grads, state, knobs,
                                                                                        BAKED_IN[way](u)))
    with pytest.raises(AssertionError):
        check(engine.open_stack([TINY], CPU))


@pytest.mark.parametrize("name", STACKS)
def test_no_value_is_needed_to_lay_an_update_out(name):
    """On the meta device, which has shapes and no values, and refuses to mix with tensors on the host."""
    stack = engine.open_stack(specs_of(name), CPU)
    for part in (stack.data, stack.knobs, stack):
        vars(part).update(tree_map_only(TENSOR, lambda t: t.to("meta"), vars(part)))
    stack.leaves = {name: w.detach().requires_grad_() for name, w in model.unpack(stack.seen, stack.specs[0]).items()}
    assert engine.step(stack).device.type == "meta"
    assert data.batch_stream(stack.data, 5, 7).shape[:2] == (len(stack.specs), 7)


# --- Capture and replay

@pytest.mark.parametrize("name", STACKS)
def test_updates_played_again_from_a_tape_train_as_the_engine_does_to_the_bit(name, monkeypatch):
    specs = specs_of(name, keep=("output",))
    called = training.train(specs, "cpu", evaluate_at=[0, 1, 10, 20, 33])
    monkeypatch.setattr(graphs, "capturer", lambda device: Taped())
    monkeypatch.setattr(Taped, "captured", 0)
    assert_same_bits(training.train(specs, "cpu", evaluate_at=[0, 1, 10, 20, 33]), called)
    assert Taped.captured == 2 * len({s.steps for s in specs})  # both graphs, and anew for every size of the stack


def test_where_capture_fails_one_line_says_so_and_training_goes_on(monkeypatch, capsys):
    class Refusing(Taped):
        def capture(self, step, times):
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
    called = training.train([TINY], "cpu")
    monkeypatch.setattr(graphs, "capturer", lambda device: Refusing())
    monkeypatch.setattr(graphs.Repeat, "refused", False)
    for _ in range(2):
        assert_same_bits(training.train([TINY], "cpu"), called)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "one by one" in said[0] and "not permitted" in said[0]


class Full(Taped):
    """Has no memory for a capture; where that is `hidden`, to leave the capture fails as well."""

    def __init__(self, hidden):
        self.hidden = hidden

    def capture(self, step, times):
        try:
            raise torch.OutOfMemoryError("no memory")
        finally:
            if self.hidden:
                raise RuntimeError("capture failed")


@pytest.mark.parametrize("hidden", [False, True])
def test_running_out_of_memory_in_a_capture_is_for_the_caller_to_answer(hidden, monkeypatch):
    monkeypatch.setattr(graphs, "capturer", lambda device: Full(hidden))
    with pytest.raises(MemoryError, match="one run alone") as found:
        training.train([TINY], "cpu")
    assert isinstance(found.value.__cause__, torch.OutOfMemoryError)
    assert not graphs.Repeat.refused


@pytest.mark.parametrize("hidden", [False, True])
def test_a_capture_that_ran_out_of_memory_lets_go_of_its_stack_at_once(hidden):
    def fails():
        stack, repeat = engine.open_stack([TINY], CPU), graphs.Repeat(CPU)
        repeat.capturer = Full(hidden)
        try:
            repeat(lambda: stack.u, graphs.WARM + 1)
        except torch.OutOfMemoryError:
            return weakref.ref(stack)
    gc.collect()
    gc.disable()  # nothing but the last reference's end may free it
    try:
        assert fails()() is None
    finally:
        gc.enable()


def test_the_host_waits_for_the_device_after_every_block_of_updates(monkeypatch):
    monkeypatch.setattr(graphs, "capturer", lambda device: Taped())
    stack = engine.open_stack([TINY], CPU)
    monkeypatch.setattr(Taped, "paced", 0)
    engine.advance(stack, 1, 2 * engine.BLOCK["cpu"] + 1)
    assert Taped.paced == 3


@pytest.mark.parametrize("times", [1, 2, 3, 4, 11, 12, 29])
def test_a_repeat_does_its_step_so_many_times(times, monkeypatch):
    monkeypatch.setattr(graphs, "capturer", lambda device: Taped())
    at, repeat = torch.zeros(1, dtype=torch.int64), graphs.Repeat(CPU)
    for calls in (1, 2, 3):
        repeat(lambda: at.add_(1), times)
        assert at == calls * times


# --- The ladder

def test_the_rungs_of_the_ladder_are_powers_of_two_and_those_between():
    assert sorted({graphs.rung(count) for count in range(1, 257)}) == [
        1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    assert all(count <= graphs.rung(count) <= 1.5 * count for count in range(1, 257))


def ladder_and_at_once(monkeypatch, capturer, fractions):
    """Eight runs that end one after the other, one of them diverging: their histories on a ladder, and packed at once.

    Checks on the way that idle rows keep their weights, and that the sizes are those of the ladder.
    """
    knobs = [{}, dict(update_noise=1.0), dict(decay_to="init"), dict(weight_noise=0.1), dict(learning_rate=1e30),
             {}, {}, {}]
    specs = [TINY.but(seed=i, steps=5 * (i + 1), train_fraction=f, keep=("output",), precision="float64", **k)
             for i, (f, k) in enumerate(zip(fractions, knobs))]
    at_once = training.train(specs, "cpu", evaluate_at=range(0, 40, 3))
    sizes, waited, before, real = [], [], {}, training.evaluate

    def watched(stack):
        for row, member in enumerate(stack.members):
            # An idle row ended at an earlier evaluation, and the stack has not been packed since; 0 times the diverged
            # one's nan is nan
            if member is None and stack.specs[row].learning_rate < 1:
                np.testing.assert_array_equal(stack.weights[row], before[row])
                waited.append(row)
        before.update(enumerate(stack.weights.clone()))
        sizes.append(len(stack.members))
        return real(stack)
    monkeypatch.setattr(training, "evaluate", watched)
    monkeypatch.setattr(training, "rung", lambda count, stack: graphs.rung(count))
    monkeypatch.setattr(graphs, "capturer", capturer)
    ladder = training.train(specs, "cpu", evaluate_at=range(0, 40, 3))
    assert list(dict.fromkeys(sizes)) == [8, 6, 4, 3, 2, 1] and waited and ladder[4].stopped_because == "diverged"
    return ladder, at_once


CAPTURERS = pytest.mark.parametrize("capturer", [lambda device: None, lambda device: Taped()], ids=["called", "taped"])


@CAPTURERS
def test_runs_that_wait_as_idle_rows_for_the_next_rung_change_no_history_to_the_bit(capturer, monkeypatch):
    assert_same_bits(*ladder_and_at_once(monkeypatch, capturer, [0.5] * 8))


@CAPTURERS
def test_where_batches_shrink_when_a_run_leaves_they_change_its_rounding_only(capturer, monkeypatch):
    """Batches are padded to the longest in the stack: sums over shorter ones are added up in another order."""
    for a, b in zip(*ladder_and_at_once(monkeypatch, capturer, [0.8 - 0.08 * i for i in range(8)]), strict=True):
        assert (a.stopped_because, a.step.tolist()) == (b.stopped_because, b.step.tolist())
        for curve in a.CURVES[1:]:
            np.testing.assert_allclose(getattr(a, curve), getattr(b, curve), rtol=1e-6, atol=1e-6)


# --- The size of a stack

class Peak(TorchDispatchMode):
    """The most bytes that the results of operations held at any one time."""

    def __init__(self):
        super().__init__()
        self.live, self.most, self.held = 0, 0, set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for t in tensors(out):
            memory = t.untyped_storage()
            if memory._cdata not in self.held:
                self.held.add(memory._cdata)
                self.live += memory.nbytes()
                weakref.finalize(memory, self.freed, memory._cdata, memory.nbytes())
        self.most = max(self.most, self.live)
        return out

    def freed(self, name, size):
        self.held.discard(name)
        self.live -= size


@pytest.mark.parametrize("knobs", [
    {}, dict(update_noise=1.0), dict(weight_noise=0.01), dict(dropout=0.1), dict(full_batch=True),
    dict(precision="float64"), dict(layers=3), dict(operation="xy in S5", train_fraction=0.05),
    dict(full_batch=True, dropout=0.1, train_fraction=0.9), dict(norm="pre", activation="gelu", biases=True),
    dict(eos=True), dict(short_last_batch=True), dict(decay_by="gradient")], ids=str)
def test_the_memory_of_a_run_is_reckoned_not_too_low_and_not_twice_too_high(knobs, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # so that `mlp` does as on a GPU
    spec = RunSpec(**knobs)
    stack = engine.open_stack([spec], CPU)
    parts = (vars(stack.data), vars(stack.knobs), {k: v for k, v in vars(stack).items() if k not in ("data", "knobs")})
    lasting = {storage(t): t.untyped_storage().nbytes() for t in tensors(parts)}
    with Peak() as update:
        engine.step(stack)
    with Peak() as evaluation:
        engine.evaluate(stack)
    taken = sum(lasting.values()) + max(update.most, evaluation.most)
    assert taken <= engine.bytes_a_run(spec) <= 2 * taken + 60 * stack.weights.numel()


def test_a_gpu_gets_as_many_runs_as_its_free_memory_holds(monkeypatch):
    monkeypatch.setattr(training, "resolve", lambda device: torch.device(device))
    for free, spec, least, most in [(0, RunSpec(), 1, 1), (2**30, RunSpec(), 10, 40),
                                    (2**30, RunSpec(full_batch=True), 2, 10),
                                    (2**40, RunSpec(), training.MOST, training.MOST)]:
        monkeypatch.setattr(training, "free_memory", lambda device: free)
        assert least <= training.most_at_once("cuda", spec) <= most
    monkeypatch.setattr(training, "free_memory", lambda device: 2**30)
    specs = [RunSpec(seed=s, full_batch=full, weight_noise=noise)
             for s in range(30) for full in (False, True) for noise in (0.01, 0)]
    stacks = training.into_stacks(specs, "cuda")
    assert sorted(id(s) for stack in stacks for s in stack) == sorted(map(id, specs))
    assert all(len(stack) <= training.most_at_once("cuda", spec) for stack in stacks for spec in stack)
    most = estimate.most_of(specs, "cuda", None)
    assert all(most[training.shape(spec)] <= training.most_at_once("cuda", spec) for spec in specs)
    assert training.most_at_once("cpu", RunSpec()) == training.most_at_once("cpu", RunSpec(full_batch=True)) == 8


# --- Where there is a GPU

@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", STACKS)
def test_cuda_graphs_train_as_updates_launched_one_by_one_do(name, monkeypatch):
    specs = specs_of(name, precision="float64")
    captured = training.train(specs, "cuda", evaluate_at=[0, 1, 10, 20, 33])
    assert not graphs.Repeat.refused
    monkeypatch.setattr(graphs, "capturer", lambda device: None)
    for a, b in zip(captured, training.train(specs, "cuda", evaluate_at=[0, 1, 10, 20, 33])):
        np.testing.assert_allclose(a.train_loss, b.train_loss, rtol=0, atol=1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", STACKS)
def test_on_cuda_the_same_stack_twice_gives_the_same_bits_and_those_of_a_cpu_to_rounding(name):
    specs = specs_of(name, precision="float64")
    once, twice, there = (training.train(specs, device, evaluate_at=[0, 1, 10, 20, 33])
                          for device in ("cuda", "cuda", "cpu"))
    assert_same_bits(once, twice)
    for a, b in zip(once, there):
        np.testing.assert_allclose(a.train_loss, b.train_loss, rtol=0, atol=1e-6)
