"""Every fault on every kind of file; no room, no rights, no home; numbers and memory that give out."""

import errno
import importlib.util
import os
import random
import shutil
import subprocess
import warnings

import campaign
import numpy as np
import pytest
import torch
from campaign import SPECS
from effort import effort
from synthetic import pace_of
from test_store import damaged, rewritten

from grok_lib import data, get_results, training
from grok_lib.__main__ import main
from grok_lib.paper import experiments
from grok_lib.runs import store, sweep
from grok_lib.runs.results import to_train
from grok_lib.specs import RunSpec

TINY = RunSpec(modulus=7, width=16, heads=2, steps=12)
KINDS = {"a curve": TINY, "kept weights": TINY.but(keep=("output",))}
FAULTS = ["empty", "truncated", "a bit flipped", "text", "another run under this name",
          "a value changed, and packed anew", "pickle inside", "an entry missing", "a newer schema",
          "a field this version does not know", "a folder", "unreadable"]


def stored(folder, spec):
    """The file of a run that was trained into a store."""
    get_results([spec], folder, time_budget=None)
    return store.path(folder, spec, spec.steps)


def spoil(file, fault, monkeypatch):
    if fault == "a newer schema":
        rewritten(file, schema=99)
    elif fault == "a field this version does not know":
        rewritten(file, spec='{"positions": "learned"}')
    elif fault == "a folder":
        file.unlink()
        file.mkdir()
        (file / "something").write_text("precious")
    elif fault == "unreadable":
        deny(file, monkeypatch)
    elif fault == "a bit flipped":
        whole = bytearray(file.read_bytes())
        whole[whole.index(b"val_loss.npy") + 60] ^= 1  # in the middle of the losses
        file.write_bytes(whole)
    else:
        damaged(file, fault)


def deny(file, monkeypatch):
    """Rights do not bind the superuser, so the refusal is played."""
    real, theirs = open, file.stat().st_ino

    def refusing(name, *arguments, **more):
        if not isinstance(name, int) and os.path.exists(name) and os.stat(name).st_ino == theirs:
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return real(name, *arguments, **more)
    monkeypatch.setattr(store, "open", refusing, raising=False)


def content(file):
    return {p.name: p.read_bytes() for p in file.iterdir()} if file.is_dir() else file.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoilt_file_is_named_in_one_line_counted_as_missing_set_aside_and_trained_again(tmp_path, fault, kind,
                                                                                           monkeypatch, capsys):
    spec, other = KINDS[kind], TINY.but(seed=1)
    file, before = stored(tmp_path, spec), store.find(spec, tmp_path)
    stored(tmp_path, other)
    spoil(file, fault, monkeypatch)
    damage = content(file)
    with pytest.warns(UserWarning, match=file.name) as warned:
        results = get_results([spec, other], tmp_path, time_budget=0)
    assert results.coverage == "1 of 2 runs"
    assert all("\n" not in str(w.message) and "passed over" in str(w.message) for w in warned)
    with pytest.warns(UserWarning, match=file.name):
        again, _ = get_results([spec, other], tmp_path, time_budget=None)
    assert content(file.with_suffix(".broken")) == damage
    monkeypatch.undo()
    for history in (again, store.find(spec, tmp_path)):
        np.testing.assert_array_equal(history.val_loss, before.val_loss)
        assert history.kept.keys() == before.kept.keys()


def test_what_was_set_aside_before_stays_when_more_is_set_aside(tmp_path):
    file = stored(tmp_path, TINY)
    for text in ("one", "two", "three"):
        file.write_text(text)
        with pytest.warns(UserWarning, match=file.name):
            get_results([TINY], tmp_path, time_budget=None)
    assert sorted(p.read_text() for p in tmp_path.glob("*.broken*")) == ["one", "three", "two"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_broken(tmp_path, kind):
    file = stored(tmp_path, KINDS[kind])
    whole = file.read_bytes()
    for length in range(0, len(whole), effort(50, 1)):
        file.write_bytes(whole[:length])
        with pytest.raises(store.BrokenFile, match=file.name):
            store.load(file)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bit_flipped_anywhere_is_found_or_changes_nothing(tmp_path, kind):
    """Nothing in the file may change what is read; some bits, such as a date within the archive, are read by nobody."""
    file = stored(tmp_path, KINDS[kind])
    whole, history, chance = file.read_bytes(), store.load(file), random.Random(1)
    found = tries = 0
    for at in range(0, len(whole), effort(25, 1)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1:])
        tries += 1
        try:
            read = store.load(file)
        except store.BrokenFile as error:
            found += "\n" not in str(error) and file.name in str(error)
            continue
        assert read.spec == history.spec and read.provenance == history.provenance
        for name in history.CURVES:
            np.testing.assert_array_equal(getattr(read, name), getattr(history, name))
    assert found > tries / 2


# --- No room, no rights, no home ---

@pytest.fixture
def tiny_campaign(monkeypatch):
    """The experiment "tiny" of `campaign`, for commands in this process."""
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", experiments.Experiment("-", "-", lambda profile: SPECS))


def one_error_line(text):
    assert text.startswith("error: ") and text.count("\n") == 1, text
    return text


def test_a_disk_that_fills_up_ends_the_sweep_in_one_line_and_keeps_what_was_done(tmp_path, tiny_campaign, monkeypatch,
                                                                                 capsys):
    sync, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) == 5:  # two calls a run: the third run
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)
    monkeypatch.setattr(os, "fsync", full)
    assert main(["sweep", "tiny", "--store", str(tmp_path), "--stack", "1"]) == 2
    line = one_error_line(capsys.readouterr().err)
    assert "No space left" in line and str(tmp_path) in line and "make room" in line
    assert [bool(store.find(spec, tmp_path)) for spec in SPECS] == [True, True] + [False] * (len(SPECS) - 2)
    assert main(["sweep", "tiny", "--store", str(tmp_path)]) == 0
    assert f"{len(SPECS) - 2} runs trained" in capsys.readouterr().out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device here that is always full")
def test_a_disk_that_is_full_is_noticed_before_anything_is_trained(tmp_path, tiny_campaign, monkeypatch, capsys):
    os.symlink("/dev/full", tmp_path / ".writing")  # a device of the kernel's, on which there is never room
    monkeypatch.setattr(training, "stream", lambda *_, **__: pytest.fail("trained in vain"))
    for command in (["sweep", "tiny"], ["run", "--modulus", "7", "--width", "16", "--steps", "12"]):
        assert main([*command, "--store", str(tmp_path)]) == 2
        assert "No space left" in one_error_line(capsys.readouterr().err)


def inside(mounts, *arguments):
    """The sweep where other things are mounted, in a view of the file system of its own, which needs no rights and
    leaves nothing."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode if shutil.which("unshare") else True:
        pytest.skip("this system does not let users mount")
    program = campaign.start(*arguments, before=("unshare", "-rm", "bash", "-c", mounts + ' && "$@"; code=$?; '
                                                 'cp -r "$STORE" "$STORE.out"; exit $code', "-"),
                             environment=os.environ | {"STORE": str(arguments[arguments.index("--store") + 1])})
    said, complained = program.communicate(timeout=120)
    return program.returncode, said, complained


def test_on_a_small_disk_what_fits_is_stored_whole(tmp_path):
    code, said, complained = inside('mkdir "$STORE" && mount -t tmpfs -o size=28k tmpfs "$STORE"',
                                    "sweep", "tiny", "--store", tmp_path / "s", "--stack", 1, "--threads", 1)
    assert code == 2 and "No space left" in one_error_line(complained)
    files = list((tmp_path / "s.out").glob("*.npz"))
    assert 3 <= len(files) < len(SPECS)
    for file in files:
        store.load(file)


def test_on_a_disk_with_room_for_runs_but_not_for_what_trains_all_runs_are_stored(tmp_path, monkeypatch):
    """What was begun of a checkpoint must not take the room that the next run that ends needs."""
    monkeypatch.setenv("GROK_EVERY", "0")
    code, said, complained = inside('mkdir "$STORE" && mount -t tmpfs -o size=64k tmpfs "$STORE"',
                                    "sweep", "tiny", "--store", tmp_path / "s", "--stack", 1, "--threads", 1)
    assert code == 0 and "No space left" in complained and "Training goes on" in complained
    assert f"{len(SPECS)} runs trained and stored" in said and ", 0 still missing" in said


def test_a_store_that_is_read_only_is_noticed_before_anything_is_trained(tmp_path):
    file = stored(tmp_path / "s", SPECS[0])
    read_only = 'mount --bind "$STORE" "$STORE" && mount -o remount,ro,bind "$STORE"'
    code, said, complained = inside(read_only, "sweep", "tiny", "--store", tmp_path / "s")
    assert code == 2 and "Read-only" in one_error_line(complained) and "training" not in said
    assert store.load(file).last_step == SPECS[0].steps


def test_without_a_home_from_another_folder_into_a_path_with_spaces_and_signs(tmp_path):
    folder = tmp_path / "a b 'ü' 数" / "[x]*"
    program = campaign.sweep(folder, cwd="/", environment={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
    said, complained = program.communicate(timeout=120)
    assert program.returncode == 0 and not complained and f"{len(SPECS)} runs trained and stored in {folder}" in said
    assert all(store.find(spec, folder) for spec in SPECS)


# --- Numbers that go wrong ---

@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_run_whose_numbers_give_out_is_recorded_at_that_update_and_changes_no_bit_of_its_neighbours(tmp_path, place):
    """Against a stack in which a sound run leaves at the same update: at once, and after many updates with numbers that
    are none."""
    neighbours = [TINY.but(steps=40), TINY.but(steps=40, seed=1, operation="x/y")]
    bad = TINY.but(steps=40, learning_rate=1e30, weight_decay=0)
    mixed = sweep.sweep([*neighbours[:place], bad, *neighbours[place:]], tmp_path, pace=pace_of([bad], 1))
    diverged = next(h for h in mixed if h.spec == bad)
    assert diverged.stopped_because == "diverged" and 0 < diverged.last_step < 40
    assert np.isfinite(diverged.train_loss[:-1]).all() and not np.isfinite(diverged.train_loss[-1])
    late = training.train([*neighbours[:place], bad, *neighbours[place:]], evaluate_at=[20, 30])
    assert late[place].stopped_because == "diverged" and late[place].last_step == 20
    for found, end, steps in (([store.find(one, tmp_path) for one in neighbours], diverged.last_step, None),
                              (late, 20, [20, 30])):
        sound = training.train([*neighbours[:place], TINY.but(steps=end), *neighbours[place:]], evaluate_at=steps)
        for one in neighbours:
            mine, theirs = (next(h for h in histories if h.spec == one) for histories in (found, sound))
            for name in mine.CURVES:
                np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    assert store.find(bad, tmp_path).last_step == diverged.last_step
    assert to_train([bad, *neighbours], tmp_path) == [], "a diverged run is done"


def one_symbol_never_seen(spec):
    seen = data.split(spec)[0]
    from grok_lib.operations import operation
    return len(set(operation(spec.operation, spec.modulus).equations[seen, :2].flatten())) < spec.modulus


EDGES = {
    "one equation to train on": TINY.but(modulus=2, train_fraction=0.25),
    "one to train on, full batch": TINY.but(modulus=2, train_fraction=0.25, full_batch=True),
    "one to validate": TINY.but(train_fraction=48 / 49),
    "a batch of one": TINY.but(batch_size=1),
    "a batch of the whole training set": TINY.but(batch_size=TINY.train_size),
    "symbols never trained on": TINY.but(train_fraction=0.05),
    "every training equation an outlier": TINY.but(outliers=TINY.train_size),
    "two equations, both outliers": TINY.but(modulus=2, outliers=2),
    "one head of width two": TINY.but(width=2, heads=1),
    "no warmup": TINY.but(warmup=0),
    "one update": TINY.but(steps=1),
}


@pytest.mark.parametrize("edge", EDGES)
def test_the_smallest_and_the_strangest_runs_train(tmp_path, edge):
    assert edge != "symbols never trained on" or one_symbol_never_seen(EDGES[edge])
    history, = get_results([EDGES[edge]], tmp_path, time_budget=None)
    assert history.stopped_because == "budget" and history.last_step == EDGES[edge].steps
    for name in ("train_loss", "val_loss"):
        assert np.isfinite(getattr(history, name)).all()
    assert edge == "one update" or history.train_loss[-1] != history.train_loss[0], "nothing was learnt"


def test_all_of_them_side_by_side_do_what_they_do_alone(tmp_path):
    edges = [spec for spec in EDGES.values() if training.shape(spec) == training.shape(TINY)]
    for alone, beside in zip((training.train([spec])[0] for spec in edges), training.train(edges)):
        np.testing.assert_allclose(alone.train_loss, beside.train_loss, rtol=0, atol=1e-4)


# --- Memory that gives out ---

GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                   "tried to allocate 4000000000 bytes. Error code 12 (Cannot allocate memory)")
NUMPY = np._core._exceptions._ArrayMemoryError((10**9,), np.dtype("float64"))


@pytest.fixture
def room_for(monkeypatch):
    """room_for(n, error): from now on that error for stacks of more than n runs (or n(stack)); returns the sizes of
    stacks opened."""
    def limit(number, error):
        opened, real = [], training.open_stack

        def open_stack(specs, device):
            opened.append(len(specs))
            if len(specs) > (number(specs) if callable(number) else number):
                raise error
            return real(specs, device)
        monkeypatch.setattr(training, "open_stack", open_stack)
        return opened
    return limit


@pytest.mark.parametrize("error", [GPU, CPU, NUMPY], ids=["gpu", "cpu", "numpy"])
def test_out_of_memory_means_smaller_stacks_said_once_and_every_run_is_trained(tmp_path, room_for, error):
    specs = [TINY.but(seed=seed) for seed in range(7)]
    opened = room_for(2, error)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")  # as a program has it
        assert len(sweep.sweep(specs, tmp_path, device="cpu", at_once=4)) == 7
    assert [str(w.message) for w in said] == ["out of memory with 4 runs at once: going on with 2"]
    assert opened[-4:] == [2, 2, 2, 1], "stacks like it are no larger after that"
    assert to_train(specs, tmp_path) == []


def test_runs_of_another_shape_have_stacks_of_their_own_size(tmp_path, room_for):
    """Full batches may not fit where ordinary ones do."""
    large, small = ([spec.but(seed=seed) for seed in range(3)] for spec in (TINY.but(width=32), TINY))
    opened = room_for(lambda specs: 1 if specs[0].width == 32 else 3, GPU)
    with pytest.warns(UserWarning, match="out of memory with 3 runs at once: going on with 1"):
        sweep.sweep([*large, *small], tmp_path, device="cpu", pace=pace_of([*large, *small], 1))
    assert opened == [3, 1, 1, 1, 3]


def test_memory_that_does_not_suffice_for_one_run_is_one_line(tmp_path, room_for, tiny_campaign, capsys):
    room_for(0, CPU)
    assert main(["sweep", "tiny", "--store", str(tmp_path), "--stack", "1"]) == 2
    assert "one run alone" in one_error_line(capsys.readouterr().err)
    assert main(["run", "--modulus", "7", "--width", "16", "--steps", "12", "--store", str(tmp_path)]) == 2
    assert "one run alone" in one_error_line(capsys.readouterr().err)


@pytest.mark.parametrize("error", [GPU, CPU, NUMPY], ids=["gpu", "cpu", "numpy"])
def test_plain_training_halves_its_stacks_too_and_returns_all_in_order(room_for, error):
    room_for(1, error)
    specs = [TINY.but(seed=seed) for seed in range(3)]
    assert [h.spec for h in training.train(specs, "cpu")] == specs


@pytest.mark.parametrize("error", [GPU, CPU], ids=["gpu", "cpu"])
def test_a_command_for_which_memory_does_not_suffice_ends_in_one_line(monkeypatch, capsys, error):
    monkeypatch.setattr("grok_lib.tools.bench.measure", lambda *_: (_ for _ in ()).throw(error))
    assert main(["bench", "--stack", "4096"]) == 2
    assert capsys.readouterr().err == "error: out of memory: use a smaller --stack, or another device\n"


def test_without_scipy_runs_with_sharpness_are_left_out_in_one_line_and_the_others_trained(tmp_path, monkeypatch,
                                                                                           capsys):
    """Or a campaign would train them to their end, and lose them there."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "scipy" else find(name, *rest))
    trained = sweep.sweep([TINY, TINY.but(seed=1, keep=("sharpness",))], tmp_path, device="cpu")
    assert [h.spec for h in trained] == [TINY]
    assert "left out: 1 run with their sharpness, which asks for scipy" in capsys.readouterr().out


def test_a_fault_that_is_not_memorys_is_not_taken_for_it(tmp_path, room_for):
    room_for(0, RuntimeError("a mistake in the engine"))
    with pytest.raises(RuntimeError, match="a mistake in the engine"):
        sweep.sweep([TINY, TINY.but(seed=1)], tmp_path)
