"""Fused updates: they compute what plain ones do, are compiled only where it pays, and nothing is lost where they
cannot be.

Only the first test compiles anything for real; elsewhere a stand-in for the compiler takes down what it is given.
"""

import functools
import shutil

import pytest
import torch

from grok_lib import engine, fuse, training
from grok_lib.runs import estimate
from grok_lib.specs import RunSpec

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning",
                                        "ignore:The .grad attribute:UserWarning",
                                        "ignore:.*should not be instantiated:DeprecationWarning")  # of torch to itself
TINY = RunSpec(modulus=11, width=16, heads=2, steps=40)
LONG = TINY.but(steps=10**12)
CPU = torch.device("cpu")
COMPILER = pytest.mark.skipif(not shutil.which("g++") or " " in torch.__file__,
                              reason="no C++ compiler, or a space in PyTorch's path")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
KNOBS = [{}, dict(decay_to="init"), dict(update_noise=0.5, weight_decay=0),
         dict(decay_by="gradient", train_fraction=0.3), dict(weight_noise=0.01)]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing compiled, nothing refused, before and after."""
    monkeypatch.setattr(fuse.State, "compiled", {})
    monkeypatch.setattr(fuse.State, "forms", set())
    monkeypatch.setattr(fuse.State, "refused", False)
    torch.compiler.reset()


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that were to be compiled; nothing is."""
    given = []

    def backend(graph, examples):
        given.append(graph)
        return graph.forward
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    return given


def runs(knobs, spec, **fields):
    return [spec.but(seed=i, **{**fields, **each}) for i, each in enumerate(knobs)]


def trained(specs, updates=20, device=CPU):
    """The weights (R, P) of a stack after so many updates."""
    stack = engine.open_stack(specs, torch.device(device))
    engine.advance(stack, 1, updates)
    return stack.weights.detach().cpu()


@COMPILER
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("knobs", [KNOBS, [dict(dropout=0.1), dict(dropout=0.3)]], ids=["all knobs", "dropout"])
def test_fused_updates_do_what_plain_ones_do_to_rounding_and_the_same_bits_each_time(knobs, device):
    first, again = (trained(runs(knobs, LONG, precision="float64"), device=device) for _ in range(2))
    assert fuse.State.compiled and not fuse.State.refused
    plain = trained(runs(knobs, TINY, precision="float64"))
    torch.testing.assert_close(first, plain, rtol=0, atol=1e-11)
    assert torch.equal(first, again)


def test_attention_norms_adamw_and_noise_are_fused(graphs):
    trained(runs(KNOBS, LONG))
    assert {function.__name__ for function in fuse.State.compiled} == {
        "_attend", "norm_of_sum", "_columns", "_adamw", "<lambda>"}
    trained(runs([dict(dropout=0.1)], LONG))
    assert sum(function.__name__ == "<lambda>" for function in fuse.State.compiled) == 2  # noise, and dropout's masks


@pytest.mark.parametrize("knobs", [KNOBS, [dict(dropout=0.1), dict(dropout=0.3)]], ids=["all knobs", "dropout"])
def test_on_a_gpu_the_whole_pass_is_one_form_that_does_the_same_and_serves_stacks_of_any_size(knobs, graphs,
                                                                                              monkeypatch):
    monkeypatch.setattr(fuse, "WHOLE", ("cpu",))
    given = trained(runs(knobs, LONG, precision="float64"))
    assert {function.__name__ for function in fuse.State.compiled} == {
        "_papers_loss", "_columns", "_adamw", "<lambda>"} and not fuse.State.refused
    torch.testing.assert_close(given, trained(runs(knobs, TINY, precision="float64")), rtol=0, atol=1e-11)
    before = len(graphs)
    for size in (3, 6, 4):
        trained(runs(knobs[-1:] * size, LONG, precision="float64"))
    some = len(graphs)
    trained(runs(knobs[-1:] * 5, LONG, precision="float64"))
    assert before and len(graphs) == some


def test_the_index_of_a_hash_is_given_to_what_is_compiled_for_triton_would_count_it_in_32_bits(graphs):
    trained(runs(KNOBS, LONG))
    assert not any("arange" in str(node.target) for graph in graphs for node in graph.graph.nodes)


def test_one_compiled_form_serves_stacks_of_any_size_from_two_on(graphs):
    trained(runs([{}] * 3, LONG))
    before = len(graphs)
    assert before
    for size in (2, 5, 4):
        trained(runs([{}] * size, LONG))
    assert len(graphs) == before


def test_the_full_model_and_that_of_another_table_stay_within_what_torch_compiles_anew(graphs):
    """Past a limit on forms of one function torch gives up, and with it would all fusing of a campaign."""
    for fields in (dict(), dict(operation="xy in S5"), dict(train_fraction=0.04), dict(train_fraction=0.02),
                   dict(modulus=89), dict(modulus=83)):
        for size in (1, 2):
            trained(runs([{}] * size, RunSpec(width=16, heads=2, steps=10**12), **fields), updates=1)
    assert not fuse.State.refused


def test_short_runs_are_not_compiled_for(graphs):
    assert (not fuse.pays([RunSpec(steps=3000)] * 8, CPU)
            and not fuse.pays([RunSpec(steps=100_000)], torch.device("cuda")))
    assert fuse.pays([RunSpec(steps=100_000)], CPU) and fuse.pays([RunSpec(steps=100_000)] * 4, torch.device("cuda"))
    history, = training.train([TINY], "cpu")
    assert not graphs and history.provenance["fused"] is False


def test_a_form_that_is_compiled_serves_short_runs_too_where_forward_and_backward_are_one(graphs, monkeypatch):
    """On a GPU it is there for the asking; on a CPU short runs stay as they are, in whatever order they come."""
    short = runs([{}] * 2, TINY)
    for whole in ((), ("cpu",)):
        monkeypatch.setattr(fuse, "WHOLE", whole)
        assert (not engine.open_stack(short, CPU).fused
                and estimate.compiling(runs([{}] * 3, LONG), "cpu") > 0 == estimate.compiling(short, "cpu"))
        trained(runs([{}] * 3, LONG))
        before = len(graphs)
        assert engine.open_stack(short, CPU).fused == bool(whole)
        assert bool(estimate.compiling(runs([{}] * 3, LONG), "cpu")) != bool(whole)
        trained(short)
        assert len(graphs) == before
        for other in (short[:1], runs([{}] * 2, TINY, dropout=0.1), runs([{}] * 2, TINY, batch_size=5)):
            assert not engine.open_stack(other, CPU).fused


def test_a_form_is_that_of_one_device_and_of_one_part_of_a_batch():
    """A full batch is cut by how many runs there are: one part where few fill the device, several where many do."""
    specs, gpu = ([RunSpec(operation="xy in S5", train_fraction=0.9, full_batch=True, seed=seed) for seed in range(42)],
                  torch.device("cuda"))
    assert engine.form(specs[:4], gpu) == engine.form(specs[:3], gpu) != engine.form(specs, gpu)
    assert (engine.form(specs[:4], gpu) != engine.form(specs[:4], CPU)
            and engine.form(specs[:1], gpu) != engine.form(specs[:2], gpu))


def test_what_began_plain_goes_on_plain_though_its_form_is_compiled_by_now(graphs, monkeypatch):
    monkeypatch.setattr(fuse, "WHOLE", ("cpu",))
    for step, (history,) in training.stream([TINY], "cpu", evaluate_at=[10]):
        if step == 10:
            break
    trained([LONG])
    assert engine.open_stack([TINY], CPU).fused
    for _, (history,) in training.stream([TINY], "cpu", begun=[history]):
        pass
    assert history.provenance["fused"] is False


def test_after_a_refusal_no_time_is_planned_for_compiling(graphs, monkeypatch):
    assert estimate.compiling([LONG], "cpu") > 0
    monkeypatch.setattr(fuse.State, "refused", True)
    assert estimate.compiling([LONG], "cpu") == 0


def test_provenance_says_whether_a_run_was_fused(graphs):
    for step, (history,) in training.stream([LONG], "cpu", evaluate_at=[10, 20]):
        if step == 10:
            break
    assert graphs and history.provenance["fused"] is True


def test_nobody_waits_for_a_compiler_to_hear_an_estimate(graphs):
    assert min(estimate.rates([LONG, LONG.but(seed=1)], "cpu", compiled=True).values()) > 0
    assert not graphs


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_where_nothing_can_be_compiled_one_line_says_so_and_training_goes_on_as_without(when, monkeypatch, capsys):
    plain, tries = trained(runs(KNOBS, TINY)), []

    def no_compiler(graph, examples):
        tries.append(graph)
        raise RuntimeError("no compiler here\nand much more to say")

    def late(function, **options):
        def fails_in_backward(*arguments):
            tries.append(function)
            return _Late.apply(function(*arguments)) if function.__name__ == "norm_of_sum" else function(*arguments)
        return fails_in_backward
    compiler = functools.partial(torch.compile, backend=no_compiler) if when == "forward" else late
    monkeypatch.setattr(torch, "compile", compiler)
    assert torch.equal(trained(runs(KNOBS, LONG)), plain)
    said = capsys.readouterr().out.splitlines()
    assert (len(said) == 1 and said[0].startswith("nothing is compiled here, updates go on without (")
            and "much more" not in said[0])
    many = len(tries)
    assert torch.equal(trained(runs(KNOBS, LONG)), plain)
    assert len(tries) == many and capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["_attend", "norm_of_sum", "_columns", "_adamw", "<lambda>"])
def test_whichever_function_cannot_be_compiled_no_update_is_lost_or_done_twice(name, monkeypatch, capsys):
    knobs = [each for each in KNOBS if "weight_noise" not in each]  # so that noise on the update is compiled last
    plain = trained(runs(knobs, TINY))

    def compiler(function, **options):
        def compiled(*arguments):
            if function.__name__ == name:
                raise RuntimeError("not this one")
            return function(*arguments)
        return compiled
    monkeypatch.setattr(torch, "compile", compiler)
    assert torch.equal(trained(runs(knobs, LONG)), plain)
    assert "not this one" in capsys.readouterr().out


def test_what_a_stack_began_with_holds_for_those_that_go_on(monkeypatch, graphs):
    asked, fusing = [], fuse.fusing
    monkeypatch.setattr(fuse, "fusing", lambda wanted: asked.append(wanted) or fusing(wanted))
    monkeypatch.setitem(fuse.LONG, "cpu", 60 * TINY.flops / RunSpec().flops)  # both together, not the longer one alone
    short, long = training.train([TINY.but(steps=20), TINY.but(seed=1, steps=40)], "cpu")
    assert set(asked) == {True} and short.provenance["fused"] and long.provenance["fused"]


class _Late(torch.autograd.Function):
    """The compiled form of a gradient is made when it is first asked for."""

    @staticmethod
    def forward(ctx, h):
        return h.clone()

    @staticmethod
    def backward(ctx, g):
        raise RuntimeError("no compiler here either")


def test_what_is_wrong_without_a_compiler_too_and_want_of_memory_are_no_reason_to_go_on(monkeypatch, graphs, capsys):
    def fails(*arguments):
        raise failure
    monkeypatch.setattr(engine, "losses", fails)
    failure = ZeroDivisionError("a mistake")
    with pytest.raises(ZeroDivisionError):
        trained([LONG])
    assert "nothing is compiled here" in capsys.readouterr().out  # it was tried
    fuse.State.refused, failure = False, torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        trained([LONG])
    assert not fuse.State.refused and not fuse.State.active and capsys.readouterr().out == ""


def test_the_callers_settings_of_the_compiler_are_left_as_they_were(graphs):
    import torch._dynamo
    before = torch._dynamo.config.recompile_limit
    trained([LONG])
    assert graphs and torch._dynamo.config.recompile_limit == before and not fuse.State.active
    assert trained([TINY]).isfinite().all()
