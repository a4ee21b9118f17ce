"""Whatever is thrown at specs, commands and files: it works, or one line says what will not do and what will."""

import contextlib
import io
import os
import tempfile

import numpy as np
import pytest
import torch
from effort import LONG, effort
from hypothesis import example, given, settings
from hypothesis import strategies as st
from synthetic import history, pace_of

from grok_lib import paths, training
from grok_lib.__main__ import main
from grok_lib.history import evaluation_steps
from grok_lib.paper import experiments
from grok_lib.runs import store, sweep
from grok_lib.specs import REQUESTS, RunSpec
from grok_lib.tools import bench

# Short: the same cases every time
tries = settings(max_examples=effort(150, 1000), deadline=None, derandomize=not LONG, database=None)

OPERATIONS = ["x+y", "x-y", "x/y", "x^3+xy^2+y", "[x/y if y odd, otherwise x-y]", "xy in S5"]
FIELDS = {  # values that mostly make sense
    "operation": st.sampled_from(OPERATIONS), "modulus": st.sampled_from([2, 3, 7, 10, 97]),
    "train_fraction": st.floats(0.01, 0.99), "outliers": st.integers(0, 40),
    "seed": st.integers(0, 2**63), "split_seed": st.none() | st.integers(0, 9),
    "layers": st.integers(1, 3), "width": st.sampled_from([2, 16, 128]), "heads": st.sampled_from([1, 2, 3]),
    "learning_rate": st.floats(1e-9, 10), "weight_decay": st.floats(0, 2),
    "decay_to": st.sampled_from(["origin", "init", "zero"]), "beta1": st.floats(0, 1), "epsilon": st.floats(0, 1),
    "warmup": st.integers(0, 100), "batch_size": st.none() | st.integers(1, 600), "full_batch": st.booleans(),
    "dropout": st.floats(0, 1), "update_noise": st.floats(0, 2), "weight_noise": st.floats(0, 2),
    "precision": st.sampled_from(["fp32", "tf32", "float64", "fp16"]), "steps": st.integers(0, 10**6),
    "stop": st.sampled_from(["budget", "solved"]), "keep": st.lists(st.text(max_size=5), max_size=3),
}
JUNK = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
                 st.lists(st.integers(), max_size=2), st.binary(max_size=3), st.just({}),
                 st.sampled_from([10**30, -10**30, 1e300, 5e-324, np.float64("nan"), np.int64(7), "x\ny"]))
# Any would do, but tables of all sizes fill memory
MODULI = st.sampled_from([None, True, -1, 0, 1, 1000, 1001, 10**30, 7.0, "7", float("nan")])


@st.composite
def some_fields(draw):
    """A few fields of a spec; in one case of four, one of them is junk."""
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), unique=True, max_size=6))
    fields = {name: draw(FIELDS[name]) for name in names}
    if names and not draw(st.integers(0, 3)):
        fields[names[0]] = draw(MODULI if names[0] == "modulus" else JUNK)
    return fields


@pytest.mark.parametrize("fields", [{"steps": 10**30}, {"layers": 10**18}, {"modulus": 10**18}])
def test_a_number_beyond_all_sense_is_refused_and_not_reckoned_with_for_ever(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        RunSpec(**fields)


def test_a_spec_is_refused_in_one_line_or_comes_back_from_json_with_its_key_and_a_schedule():
    refused = []

    @tries
    @given(some_fields())
    def holds(fields):
        refused.append(True)
        try:
            spec = RunSpec(**fields)
        except ValueError as error:
            assert str(error) and "\n" not in str(error)
            return
        refused[-1] = False
        again = RunSpec.from_json(spec.to_json())
        assert again == spec and again.key == spec.key
        assert spec.but(steps=7, stop="solved", keep=()).key == spec.key, "requests shape no training"
        for name in fields.keys() - set(REQUESTS):  # a field that is not the default's moves the key
            plain = getattr(RunSpec(), name)
            with contextlib.suppress(ValueError):
                assert (spec.but(**{name: plain}).key == spec.key) == (getattr(spec, name) == plain)
        assert 1 <= spec.batch <= spec.train_size < spec.equations and spec.flops > 0
        steps = evaluation_steps(spec.steps)
        assert steps[0] == 0 and steps[-1] == spec.steps and (np.diff(steps) > 0).all()
    holds()
    assert 0.2 < np.mean(refused) < 0.8, "only one side was tried"


VALUES = st.one_of(st.sampled_from(["", " ", "0", "-1", "1", "3", "7", "0.5", "nan", "inf", "-inf", "1e999", "9" * 30,
                                    "-" + "9" * 30, "ü", "x\ny", "\0", "--", "-", "None", "auto", "cpu", "cuda:9",
                                    "meta", "tf32", "smoke", "start_here", "best", *OPERATIONS]),
                   st.integers().map(str), st.floats().map(str),
                   st.text(st.characters(blacklist_characters="/.", blacklist_categories=["Cs"]), max_size=9))
FLAGS = {
    "run": ["--operation", "--modulus", "--train-fraction", "--seed", "--width", "--learning-rate", "--batch-size",
            "--full-batch", "--dropout", "--precision", "--steps", "--until", "--outliers", "--device", "--threads",
            "--store", "--help"],
    "sweep": ["--profile", "--time-budget", "--stack", "--device", "--threads", "--store", "start_here", "operations"],
    "status": ["--profile", "--json", "--device", "--threads", "--store", "start_here", "operations"],
    "verify": ["--sample", "--seed", "--device", "--threads", "--store"],
    "bench": ["--stack", "--json", "--device", "--threads"],
}
LINES = st.sampled_from([*FLAGS, "walk", "--help"]).flatmap(lambda command: st.lists(
    st.sampled_from(FLAGS.get(command, ["--store"])) | VALUES, max_size=6).map(lambda rest: [command, *rest]))


def instant(specs, device="auto", evaluate_at=None, begun=None):
    """In place of training: the histories of runs that were over at once."""
    yield 0, [history(spec, steps=(0, 1, 2, 3, spec.steps) if spec.steps > 3 else range(spec.steps - 4, spec.steps + 1))
              for spec in specs]


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Commands do everything but what takes long, in a folder where they may write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROK_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(training, "stream", instant)
    monkeypatch.setattr(sweep, "rates", lambda specs, *_, **__: pace_of(specs, float(len(specs))))
    monkeypatch.setattr(bench, "measure", lambda *_, **__: [])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {
        name: experiments.Experiment("-", "-", lambda profile: [RunSpec(modulus=7, steps=9)])
        for name in ("start_here", "operations")})


def test_a_command_line_works_or_is_refused_in_one_line(quick):
    codes = set()

    @tries
    @given(LINES)
    @example(["run", "--steps", "9" * 30])
    @example(["run", "--threads", "9" * 30])
    @example(["sweep", "--store", "\0"])
    @example(["run", "--store", "x" * 300])
    @example(["run", "--x\ny"])
    def holds(arguments):
        said, complained = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            try:
                code = main(arguments)
            except SystemExit as stopped:
                code = stopped.code
        text = complained.getvalue()
        codes.add(code)
        assert code in (0, 2)
        assert (text.startswith("error: ") and text.count("\n") == 1) if code else (said.getvalue() and not text)
    holds()
    assert codes == {0, 2}, "only one side was tried"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The bytes of a stored run, and the run."""
    folder = tmp_path_factory.mktemp("runs")
    return store.save(history(), folder).read_bytes(), history()


@tries
@given(data=st.data())
def test_a_file_of_any_bytes_is_the_run_that_was_stored_or_named_in_one_line(runs, data):
    whole, stored = runs
    cut = st.integers(0, len(whole))
    content = data.draw(st.binary(max_size=200)
                        | st.builds(lambda a, b, put: whole[:a] + put + whole[b:], cut, cut, st.binary(max_size=40)))
    with tempfile.TemporaryDirectory() as folder:
        file = store.path(folder, stored.spec)
        file.write_bytes(content)
        try:
            read = store.load(file)
        except store.BrokenFile as error:
            assert str(file) in str(error) and "\n" not in str(error)
            return
        assert read.spec == stored.spec and read.provenance == stored.provenance
        for name in stored.CURVES:
            np.testing.assert_array_equal(getattr(read, name), getattr(stored, name))
        assert os.listdir(folder) == [file.name], "reading writes nothing"
