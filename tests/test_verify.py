"""`verify` confirms what was trained here, and finds whatever was not."""

import dataclasses

import numpy as np
import pytest
from effort import effort

from grok_lib import paths, training
from grok_lib.__main__ import main
from grok_lib.runs import store
from grok_lib.specs import RunSpec
from grok_lib.tools import verify

TINY = RunSpec(modulus=11, width=16, heads=2, steps=60)
SOUND = [TINY, TINY.but(steps=12, keep=("output",)),
         TINY.but(operation="x/y", update_noise=1.0, weight_decay=0, stop="solved"),
         TINY.but(precision="float64", weight_noise=0.01), TINY.but(full_batch=True, decay_to="init"),
         TINY.but(dropout=0.1), TINY.but(embedding_scale=1e38, seed=3), TINY.but(learning_rate=1e30, weight_decay=0)]


@pytest.fixture(scope="module")
def histories():
    return training.train(SOUND)


@pytest.fixture
def folder(tmp_path, histories):
    for history in histories:
        store.save(history, tmp_path)
    return tmp_path


def faults(folder):
    return {check.file.name: check.fault for check in verify.check(sorted(folder.glob("*.npz"))) if check.fault}


def test_runs_of_every_kind_trained_in_other_stacks_agree(folder, histories):
    assert histories[-1].stopped_because == "diverged" and len(list(folder.glob("*.npz"))) == len(SOUND)
    assert faults(folder) == {}


# What another version might have done differently, and what a run would then hold under this spec's name.
OTHERWISE = {"split": {"split_seed": 9}, "initial weights": {"init_seed": 9}, "order": {"order_seed": 9},
             "warmup": {"warmup": 11}, "batch": {"batch_size": TINY.batch - 1}, "beta2": {"beta2": 0.97},
             "learning rate": {"learning_rate": 1.1e-3}, "outliers": {"outliers": 1}, "decay": {"weight_decay": 2.0}}


@pytest.mark.parametrize("what", OTHERWISE)
def test_a_run_that_was_made_otherwise_is_named(tmp_path, what):
    other, = training.train([TINY.but(seed=1, **OTHERWISE[what])])
    file = store.save(dataclasses.replace(other, spec=TINY.but(seed=1)), tmp_path)
    (name, fault), = faults(tmp_path).items()
    assert name == file.name and "loss at update" in fault and "stored" in fault and "\n" not in fault


@pytest.mark.parametrize("curve", ["train_loss", "val_loss"])
def test_one_loss_that_is_not_what_was_trained_is_found(tmp_path, curve):
    """A thousandth of a nat at one evaluation, in a file that is whole."""
    spec = TINY.but(seed=2)
    true, = training.train([spec])
    losses = getattr(true, curve).copy()
    losses[5] += 1e-3
    file = store.save(dataclasses.replace(true, **{curve: losses}), tmp_path)
    (name, fault), = faults(tmp_path).items()
    assert (name == file.name
            and f"{'training' if curve == 'train_loss' else 'validation'} loss at update {true.step[5]}" in fault)


def test_a_damaged_file_and_a_run_that_was_never_looked_at_early_do_not_count_as_agreeing(folder):
    late, = training.train([TINY.but(seed=3)], evaluate_at=[40, 50])
    files = [store.save(late, folder), store.path(folder, TINY)]
    files[1].write_bytes(files[1].read_bytes()[:500])
    assert faults(folder).keys() == {file.name for file in files}


def test_the_command_says_how_many_agree_names_the_others_and_fails_if_there_are_any(folder, capsys):
    flags = ["verify", "--store", str(folder), "--sample", "99", "--threads", "1", "--device", "cpu"]
    assert main(flags) == 0
    said = capsys.readouterr().out
    assert f"{len(SOUND)} of {len(SOUND)} agree" in said and "DISAGREES" not in said
    store.path(folder, TINY).write_text("not a run")
    assert main(flags) == 1
    said = capsys.readouterr().out
    line, = [line for line in said.splitlines() if line.startswith("DISAGREES")]
    assert TINY.key in line and f"{len(SOUND) - 1} of {len(SOUND)} agree" in said


def test_the_sample_is_random_of_the_size_asked_for_and_drawn_again_by_its_seed(folder):
    drawn = [verify.draw(folder, 3, seed) for seed in (1, 1, *range(2, 9))]
    assert drawn[0] == drawn[1] and {len(set(files)) for files in drawn} == {3}
    assert len({tuple(sorted(files)) for files in drawn}) > 3
    assert sorted(verify.draw(folder, 99, 1)) == sorted(folder.glob("*.npz"))


@pytest.mark.parametrize("arguments, words", [
    (["--sample", "0"], ["sample", "1 or more"]),
    (["--store", "no such folder"], ["no such folder", "no runs"]),
    (["--store", __file__], [__file__, "folder"]),
    (["--device", "toaster"], ["toaster"]),
])
def test_a_mistake_is_one_line(arguments, words, capsys):
    assert main(["verify", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and all(word in said for word in words)


def test_shipped_runs_are_what_this_machine_trains():
    for check in verify.check(verify.draw(paths.RESULTS, effort(1, 5), seed=1)):
        assert not check.fault, f"{check.file}: {check.fault}"


def test_a_difference_that_is_no_number_is_a_disagreement(histories):
    broken = dataclasses.replace(histories[0], train_loss=np.full_like(histories[0].train_loss, np.nan))
    assert verify.compare(None, histories[0], histories[0]).fault == ""
    assert "loss at update 0" in verify.compare(None, broken, histories[0]).fault
