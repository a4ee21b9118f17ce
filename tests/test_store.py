"""The store: what is saved comes back, damage is found and set aside, the longer history stays."""

import warnings
import zipfile

import numpy as np
import pytest
from synthetic import history

from grok_lib import paths
from grok_lib.model import parameter_shapes
from grok_lib.runs import store, sweep
from grok_lib.specs import RunSpec

SPEC = RunSpec(steps=1000)


def test_a_saved_history_comes_back_to_the_bit(tmp_path):
    saved = history(SPEC.but(keep=("output",)), kept={"output": np.arange(6, dtype=np.float32).reshape(2, 3)},
                    val=(0, np.nan, 0.4, 0.5, 1))
    back = store.load(store.save(saved, tmp_path))
    for curve in saved.CURVES:
        np.testing.assert_array_equal(getattr(back, curve), getattr(saved, curve))
        assert getattr(back, curve).dtype == getattr(saved, curve).dtype
    assert (back.spec, back.stopped_because, back.provenance) == (saved.spec, saved.stopped_because, saved.provenance)
    np.testing.assert_array_equal(back.kept["output"], saved.kept["output"])


def test_a_file_is_named_by_the_key_small_and_readable_with_numpy_alone(tmp_path):
    file = store.save(history(), tmp_path)
    assert file.name == f"{SPEC.key}.npz" and file.stat().st_size < 5000
    with np.load(file, allow_pickle=False) as archive:
        assert archive["val_accuracy"][-1] == 1 and '"operation": "x+y"' in archive["spec"].item()


def test_what_is_no_history_is_refused_and_does_not_take_the_runs_place(tmp_path):
    from dataclasses import replace
    whole = history()
    for bad in (replace(whole, val_loss=whole.val_loss[:-1]), replace(whole, provenance=None),
                replace(whole, **{c: getattr(whole, c)[:0] for c in whole.CURVES})):
        with pytest.raises(ValueError, match="curves of one length"):
            store.save(bad, tmp_path)
    assert store.find(SPEC, tmp_path) is None and store.load(store.save(whole, tmp_path)).last_step == 1000


def test_a_file_of_another_kind_is_never_advised_to_be_unpickled(tmp_path):
    file = store.path(tmp_path, SPEC)
    file.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(store.BrokenFile, match="no .npz file: fetch it again") as refused:
        store.load(file)
    assert "pickle" not in str(refused.value)


def test_a_store_may_be_named_from_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.folders("~/runs") == [tmp_path / "runs"]
    monkeypatch.setenv("GROK_BUILD", "~/build")
    assert paths.build() == tmp_path / "build"


def test_saving_leaves_nothing_else_behind_and_the_same_history_gives_the_same_bytes(tmp_path):
    one, two = store.save(history(), tmp_path / "a"), store.save(history(), tmp_path / "b")
    assert {p.name for p in one.parent.iterdir()} == {one.name, ".lock"}
    assert one.read_bytes() == two.read_bytes()


def test_two_processes_that_save_one_run_leave_the_longer_history(tmp_path):
    """Also where the shorter one is done first and written last."""
    import multiprocessing
    long, short = history(), history(SPEC.but(steps=100), steps=(0, 1, 10, 50, 100))
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        for i in range(20):
            pool.starmap(store.save, [(h, tmp_path / str(i)) for h in ((long, short) if i % 2 else (short, long))],
                         chunksize=1)
            assert store.load(store.path(tmp_path / str(i), SPEC)).last_step == 1000


def test_of_two_histories_of_one_run_the_longer_stays_in_either_order(tmp_path):
    long, short = history(), history(SPEC.but(steps=100), steps=(0, 1, 10, 50, 100))
    for first, second, folder in ((long, short, tmp_path / "a"), (short, long, tmp_path / "b")):
        store.save(first, folder)
        assert store.load(store.save(second, folder)).last_step == 1000


def test_of_two_histories_that_were_both_solved_the_first_stays_for_the_slower_is_no_better(tmp_path):
    ends = {end: history(SPEC.but(steps=budget, stop="solved"), steps=(0, 1, 2, 3, end), train=(0, 0, 0, 0, 1),
                         val=(0, 0, 0, 0, 1), stopped_because="solved")
            for end, budget in ((400, 1000), (300, 10_000))}
    for first, second, folder in ((400, 300, tmp_path / "a"), (300, 400, tmp_path / "b")):
        store.save(ends[first], folder)
        assert store.load(store.save(ends[second], folder)).last_step == first and len(list(folder.glob("*.npz"))) == 1


def test_a_run_that_diverged_makes_room_for_one_of_another_machine_that_went_on(tmp_path):
    broken = history(SPEC, steps=(0, 1, 2, 3, 50), train_loss=(4, 3, 1, 1, np.nan), stopped_because="diverged")
    store.save(broken, tmp_path)
    assert store.load(store.save(history(), tmp_path)).stopped_because == "budget"


def test_a_longer_history_answers_a_shorter_request_cut_at_its_budget(tmp_path):
    store.save(history(), tmp_path)
    found = store.find(SPEC.but(steps=100), tmp_path)
    assert found.step.tolist() == [0, 1, 10, 100] and found.spec.steps == 100
    assert store.find(SPEC.but(steps=1001), tmp_path) is None
    assert store.find(SPEC.but(keep=("output",)), tmp_path) is None
    assert store.find(SPEC.but(seed=1), tmp_path) is None


@pytest.mark.parametrize("solved_first", [True, False])
def test_a_run_solved_before_another_history_of_it_ended_unsolved_stays_beside_that(tmp_path, solved_first):
    """Trained on another machine the same run may be solved sooner: neither history answers for the other."""
    short, long = (history(SPEC.but(steps=500), steps=(0, 1, 2, 3, 500), val=(0, 0, 0, 0, 0.99)),
                   SPEC.but(steps=10_000, stop="solved"))
    solved = history(long, steps=(0, 1, 2, 3, 400), train=(0, 0, 0, 0, 1), val=(0, 0, 0, 0, 1),
                     stopped_because="solved")
    for one in [solved, short] * 2 if solved_first else [short, solved] * 2:
        store.save(one, tmp_path)
    assert store.find(long, tmp_path).last_step == 400 and store.find(short.spec, tmp_path).last_step == 500
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_two_stores_become_one_in_which_the_longer_history_stays_whichever_it_came_from(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    long, other = history(), SPEC.but(seed=1)
    store.save(long, here)
    store.save(history(SPEC.but(steps=100), steps=(0, 1, 2, 3, 100)), there)
    store.save(history(other.but(steps=100), steps=(0, 1, 2, 3, 100)), here)
    store.save(history(other), there)
    (there / "0123.npz").write_bytes(b"damage")
    with pytest.warns(UserWarning, match="0123.npz is not a whole history"):
        store.merge(there, here)
    assert ([store.find(spec, here).last_step for spec in (SPEC, other)] == [1000, 1000]
            and len(list(here.glob("*.npz"))) == 2)


def test_two_histories_that_cannot_be_of_one_training_are_said_to_disagree_and_those_of_two_machines_are_not(tmp_path):
    near, far = history(), history()
    near.train_loss[1] += 5e-5
    far.val_loss[1] += 1e-3
    store.save(history(), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.save(near, tmp_path)
    with pytest.warns(UserWarning, match=f"two histories of the run {SPEC.key} disagree: "
                                         "validation loss at update 1: stored .*, here"):
        store.save(far, tmp_path)


def test_weights_kept_at_one_budget_and_a_longer_curve_live_side_by_side(tmp_path):
    """Or the two requests would train each other's run away, again and again."""
    spec = SPEC.but(steps=100, keep=("output",))
    short = history(spec, steps=(0, 1, 10, 50, 100), kept={"output": np.ones((2, 3), np.float32)})
    for first, second, folder in ((history(), short, tmp_path / "a"), (short, history(), tmp_path / "b")):
        store.save(first, folder), store.save(second, folder)
        assert store.find(SPEC, folder).last_step == 1000
        found = store.find(spec, folder)
        assert found.last_step == 100 and found.kept["output"].sum() == 6
        assert store.find(SPEC.but(keep=("output",)), folder) is None  # none were kept at update 1000


def damaged(file, how):
    content = file.read_bytes()
    if how == "empty":
        file.write_bytes(b"")
    elif how == "truncated":
        file.write_bytes(content[:len(content) // 2])
    elif how == "a bit flipped":
        at = content.index(b"val_loss") + 200
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1:])
    elif how == "text":
        file.write_text("not found")
    elif how == "another run under this name":
        file.write_bytes(store.save(history(SPEC.but(seed=7)), file.parent / "other").read_bytes())
    elif how == "a value changed, and packed anew":
        with np.load(file) as archive:
            entries = dict(archive)
        entries["val_accuracy"] = entries["val_accuracy"] * 0.99
        np.savez_compressed(file, **entries)
    elif how == "pickle inside":
        np.savez_compressed(file, checksum=np.array([{}], dtype=object))
    elif how == "an entry missing":
        with zipfile.ZipFile(file) as archive:
            parts = {name: archive.read(name) for name in archive.namelist() if name != "step.npy"}
        with zipfile.ZipFile(file, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, part)


@pytest.mark.parametrize("how", ["empty", "truncated", "a bit flipped", "text", "another run under this name",
                                 "a value changed, and packed anew", "pickle inside", "an entry missing"])
def test_a_broken_file_is_named_in_one_line_not_read_and_set_aside_by_the_next_save(tmp_path, how):
    file = store.save(history(), tmp_path)
    damaged(file, how)
    with pytest.raises(store.BrokenFile, match=file.name):
        store.load(file)
    with pytest.warns(UserWarning, match=file.name) as warned:
        assert store.find(SPEC, tmp_path) is None
    assert "\n" not in str(warned[0].message)
    damage = file.read_bytes()
    with pytest.warns(UserWarning, match=file.name):
        store.save(history(), tmp_path)
    assert store.find(SPEC, tmp_path) is not None
    assert file.with_suffix(".broken").read_bytes() == damage


def rewritten(file, **changes):
    """The file with some entries changed, and a checksum that fits them."""
    with np.load(file) as archive:
        entries = dict(archive) | {name: np.array(value) for name, value in changes.items()}
    entries["checksum"] = np.array(store._checksum({name: a for name, a in entries.items() if name != "checksum"}))
    np.savez_compressed(file, **entries)


@pytest.mark.parametrize("changes", [{"schema": 99}, {"spec": '{"positions": "learned"}'}])
def test_a_whole_file_of_another_version_is_passed_over_and_never_overwritten(tmp_path, changes):
    file = store.save(history(), tmp_path)
    rewritten(file, **changes)
    with pytest.warns(UserWarning, match="passed over"):
        assert store.find(SPEC, tmp_path) is None
    theirs = file.read_bytes()
    with pytest.warns(UserWarning, match="passed over"):
        store.save(history(), tmp_path)
    assert store.find(SPEC, tmp_path) is not None and file.with_suffix(".broken").read_bytes() == theirs


def test_a_fault_of_the_machine_is_not_taken_for_one_of_the_file(tmp_path, monkeypatch):
    file = store.save(history(), tmp_path)
    def out_of_memory(*_, **__):
        raise MemoryError
    monkeypatch.setattr(np, "load", out_of_memory)
    with pytest.raises(MemoryError):
        store.find(SPEC, tmp_path)
    assert file.exists()


def test_the_shipped_runs_are_read_and_never_written_unless_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GROK_BUILD", str(tmp_path))
    assert store.folders() == [tmp_path / "results", paths.RESULTS]
    assert store.folders("there") == [store.Path("there")]


def test_every_shipped_run_is_whole_and_made_by_this_schema():
    files = sorted(paths.RESULTS.glob("*.npz"))
    assert files, "no shipped runs"
    for file in files:
        shipped = store.load(file)
        assert shipped.last_step == shipped.spec.steps or shipped.stopped_because != "budget"
        assert {"device", "torch", "precision", "git_revision"} <= set(shipped.provenance)


def test_a_folder_that_is_not_there_is_no_store_to_merge(tmp_path):
    with pytest.raises(ValueError, match="there are no runs in .*: name the store to merge"):
        store.merge(tmp_path / "typo", tmp_path)


def test_a_run_that_keeps_all_its_weights_has_a_name_that_a_file_can_have(tmp_path):
    """A file's name has 255 bytes at most; the names of three layers' weights are longer together."""
    spec = RunSpec(modulus=7, width=16, heads=2, layers=3, steps=1)
    spec = spec.but(keep=tuple(parameter_shapes(spec)))
    assert len("-".join(spec.keep)) > 255
    sweep.sweep([spec], tmp_path, device="cpu")
    assert store.find(spec, tmp_path).kept.keys() == set(spec.keep)
    # As ever
    assert store.path(tmp_path, spec.but(keep=("output", "embedding")), 1).name == f"{spec.key}@1-embedding-output.npz"
