"""The bench: the rows that it promises, a baseline that is the paper's model, numbers that fit one another. No timing
is asserted."""

import json
import types

import pytest
import torch

from grok_lib import engine, fuse, model, training
from grok_lib.__main__ import main
from grok_lib.specs import RunSpec
from grok_lib.tools import bench

TINY = RunSpec(modulus=7, width=16, heads=2)


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(bench, "WINDOWS", 2)
    monkeypatch.setattr(bench, "WINDOW", 0)


def test_the_baseline_has_the_weights_of_the_paper_and_learns():
    module = bench.Textbook(RunSpec())
    inner = sum(p.numel() for name, p in module.named_parameters() if not name.startswith(("embedding", "output")))
    assert inner == model.inner_weights(RunSpec())
    torch.manual_seed(0)
    tokens, answers = torch.tensor([[1, 7, 2, 8], [3, 7, 3, 8]]), torch.tensor([3, 6])
    module = bench.Textbook(TINY)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(tokens), answers)
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_rows_cover_the_baseline_every_stack_size_noise_and_full_batch_and_their_numbers_fit():
    rows = bench.measure([1, 2], "cpu", spec=TINY)
    assert [(r.name, r.stack) for r in rows] == [
        ("textbook loop", 1), ("engine", 1), ("engine", 2), ("engine, update noise", 2), ("engine, weight noise", 2),
        ("engine, dropout", 2), ("engine, full batch", 1), ("engine, not compiled", 2)]
    for row in rows:
        assert row.microseconds * row.run_steps_per_second == pytest.approx(1e6)
        assert row.peak_mib > 0 and row.share > 0
    assert rows[0].ratio == 1
    assert rows[1].useful_gflops == pytest.approx(TINY.flops / rows[1].microseconds / 1e3)


def test_a_machine_that_grows_slower_all_the_time_changes_no_ratio(monkeypatch):
    now, slow = [0.0], [1.0]

    def loop(cost):
        def updates(count):
            slow[0] *= 1.1
            now[0] += cost * count * slow[0]
        return updates
    monkeypatch.setattr(bench, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(bench, "matmul_rate", lambda *_: 1e12)
    monkeypatch.setattr(bench, "textbook_loop", lambda spec, device: loop(4.0))
    monkeypatch.setattr(bench, "engine_loop", lambda specs, device: loop(1.0 * len(specs)))
    rows = bench.measure([1, 2], "cpu", spec=TINY)
    assert rows[2].microseconds > 1.5 * rows[1].microseconds  # it did grow slower
    assert [row.ratio for row in rows[1:3]] == pytest.approx([4, 4], rel=0.11)


def test_the_command_prints_the_table_and_writes_the_rows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda stacks, device, report: [
        report(row) or row for row in [bench.Row("engine", stacks[0], 10.0, 0.01, 1e5, 2.0, 90.0, 0.5, 300.0)]])
    assert main(["bench", "--stack", "4", "--json", str(tmp_path / "rows.json")]) == 0
    assert "µs/run-step" in (said := capsys.readouterr().out) and "engine" in said
    assert json.loads((tmp_path / "rows.json").read_text())[0]["stack"] == 4


def test_rows_are_written_as_they_come_for_the_device_may_be_taken_away(tmp_path, monkeypatch):
    def taken_away(stacks, device, report):
        report(bench.Row("engine", 4, 10.0, 0.01, 1e5, 2.0, 90.0, 0.5, 300.0))
        raise KeyboardInterrupt
    monkeypatch.setattr(bench, "measure", taken_away)
    assert main(["bench", "--json", str(tmp_path / "rows.json")]) == 130
    assert json.loads((tmp_path / "rows.json").read_text())[0]["stack"] == 4


def test_the_row_that_is_not_compiled_is_not_though_its_form_is_by_then(monkeypatch):
    monkeypatch.setattr(fuse.State, "forms", {engine.form([TINY.but(steps=1)] * 2, torch.device("cpu"))})
    seen = []
    monkeypatch.setattr(training, "advance", lambda stack, *_: seen.append(stack.fused))
    assert training.open_stack([TINY.but(steps=1)] * 2, torch.device("cpu")).fused
    bench.engine_loop([TINY.but(steps=1)] * 2, torch.device("cpu"))(1)
    assert seen == [False]


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda *_, **__: pytest.fail("measured"))
    assert main(["bench", "--json", str(tmp_path / "nowhere" / "rows.json")]) == 2
    assert capsys.readouterr().err.startswith("error: --json")


@pytest.mark.parametrize("stack", ["0", "a", "1,,2", "-3"])
def test_stack_sizes_that_are_none_are_refused_in_one_line(stack, capsys):
    assert main(["bench", f"--stack={stack}"]) == 2
    assert capsys.readouterr().err.startswith("error: --stack")
