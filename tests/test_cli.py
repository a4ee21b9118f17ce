"""`python -m grok_lib`: instant help, one line for a mistake, a run that is stored."""

import inspect
import json
import os
import subprocess
import sys

import pytest
from synthetic import pace_of

from grok_lib.__main__ import main
from grok_lib.runs import store, sweep
from grok_lib.specs import RunSpec

TINY = ["--modulus", "7", "--width", "16", "--steps", "12"]


def test_a_run_is_trained_described_and_stored(tmp_path, capsys):
    assert main(["run", *TINY, "--store", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "x+y (mod 7)" in said and "validation accuracy" in said and "update 12 of 12" in said
    assert store.find(RunSpec(modulus=7, width=16, steps=12), tmp_path) is not None


@pytest.mark.parametrize("arguments, asked", [
    ([], RunSpec(steps=3000)), (["--until", "solved"], RunSpec(steps=3000, stop="solved")),
    (["--operation", "x/y", "--weight-decay", "0", "--no-such"], None),
    (["--full-batch", "--seed", "3"], RunSpec(steps=3000, full_batch=True, seed=3))])
def test_flags_are_the_fields_of_the_run_that_is_trained_and_without_any_it_is_the_readmes(arguments, asked,
                                                                                           monkeypatch):
    seen = []
    monkeypatch.setattr(sweep, "watch", lambda spec, *_: seen.append(spec) or (_ for _ in ()).throw(KeyboardInterrupt))
    if asked is None:
        with pytest.raises(SystemExit):
            main(["run", *arguments])
    else:
        assert main(["run", *arguments]) == 130
    assert seen == [asked] * (asked is not None)


@pytest.mark.parametrize("arguments, words", [
    (["--operation", "x+z"], ["operation", "x+z", "x+y"]),
    (["--train-fraction", "1.5"], ["train_fraction", "1.5", "between 0 and 1"]),
    (["--modulus", "91", "--operation", "x/y"], ["modulus", "91", "prime"]),
    (["--steps", "-5"], ["steps", "-5"]),
    (["--batch-size", "99999"], ["batch_size", "99999"]),
    (["--device", "meta"], ["device", "meta", "cpu"]),
    (["--device", "toaster"], ["device", "toaster"]),
    (["--precision", "tf32", "--device", "cpu"], ["precision", "tf32", "fp32"]),
    (["--threads", "0"], ["threads", "0"]),
    (["--store", __file__], [__file__]),
])
def test_a_mistake_is_one_line_with_the_remedy_and_exit_code_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GROK_BUILD", str(tmp_path))
    assert main(["run", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and all(word in said for word in words)


@pytest.mark.parametrize("arguments", [[], ["walk"], ["run", "--steps", "many"], ["run", "--stpes", "3"],
                                       ["run", "--seed"]])
def test_a_flag_or_a_command_that_is_none_is_one_line_too(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1 and "--help" in said


@pytest.mark.parametrize("arguments", [["run", "--learningrate", "1"], ["sweep", "--stac", "1"],
                                       ["status", "--only", "1"]])
def test_a_flag_that_is_none_is_looked_up_in_the_help_of_its_command(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GROK_BUILD", str(tmp_path))
    monkeypatch.setattr("grok_lib.training.open_stack", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit):
        main(arguments)
    assert f"see python -m grok_lib {arguments[0]} --help" in capsys.readouterr().err


def test_bench_measures_nothing_that_it_could_not_write(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("grok_lib.tools.bench.measure", lambda *_: pytest.fail("measured"))
    for name in ("", str(tmp_path), str(tmp_path / "not there" / "rows.json")):
        assert main(["bench", "--json", name]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: --json ") and said.count("\n") == 1 and "can be written" in said


def test_another_python_is_told_how_to_call_it():
    done = subprocess.run([sys.executable, "-c", "import sys; sys.modules['numpy'] = None; import runpy; "
                                                 "runpy.run_module('grok_lib', run_name='__main__')"],
                          capture_output=True, text=True)
    assert (done.returncode and done.stderr.startswith("error: numpy is not installed")
            and done.stderr.count("\n") == 1 and "--setup" in done.stderr)


def test_a_run_that_is_stopped_is_kept_as_the_shorter_run_that_it_was(tmp_path):
    spec = RunSpec(modulus=7, width=16, heads=2, steps=1000, keep=("output",))
    live = sweep.watch(spec, tmp_path, "cpu")
    while next(live)[0] < 10:
        pass
    live.close()  # as a Ctrl-C does
    kept, = (store.load(file) for file in tmp_path.glob("*.npz"))
    assert (kept.stopped_because, kept.last_step) == ("budget", kept.spec.steps) and 10 <= kept.last_step < 1000
    assert store.find(spec, tmp_path) is None and store.find(spec.but(steps=10, keep=()), tmp_path)


@pytest.mark.parametrize("arguments, words", [
    (["sweep", "nonsense"], ["nonsense", "start_here", "embeddings"]),
    (["sweep", "--time-budget", "0"], ["time-budget", "0", "1 or more"]),
    (["sweep", "--time-budget", "nan"], ["time-budget", "nan"]),
    (["sweep", "--stack", "0"], ["stack", "0"]),
    (["sweep", "--threads", "-1"], ["threads", "-1"]),
    (["sweep", "--threads", "99999999999"], ["threads", "1024"]),
    (["sweep", "--device", "toaster"], ["device", "toaster"]),
    (["sweep", "--store", __file__], [__file__, "folder"]),
    (["sweep", "--store", ""], ["--store", "folder"]),
    (["status", "start_here", "nonsense"], ["nonsense", "start_here"]),
    (["status", "--store", __file__], [__file__, "folder"]),
    (["status", "--device", "toaster"], ["device", "toaster"]),
])
def test_a_mistake_in_a_campaign_is_one_line_before_anything_is_trained(arguments, words, capsys, tmp_path,
                                                                        monkeypatch):
    monkeypatch.setenv("GROK_BUILD", str(tmp_path))
    monkeypatch.setattr("grok_lib.training.open_stack", lambda *_: pytest.fail("trained"))
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and all(word in said for word in words)


@pytest.mark.parametrize("arguments", [["sweep", "--profile", "best"], ["sweep", "--profile"],
                                       ["status", "--json", "--jsn"],
                                       ["sweep", "--stack", "1.5"], ["sweep", "--time-budget", "soon"]])
def test_a_flag_of_a_campaign_that_is_none_is_one_line_too(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1 and "--help" in said


@pytest.fixture
def two_runs(monkeypatch):
    """Experiments of one and of two tiny runs, one of them in both."""
    from grok_lib.paper import experiments
    specs = [RunSpec(modulus=7, width=16, heads=2, steps=12, seed=seed) for seed in (0, 1)]
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"one": experiments.Experiment("1", "-", lambda profile: specs[:1]),
                                                     "both": experiments.Experiment("2", "-", lambda profile: specs)})
    return specs


def test_a_sweep_trains_what_is_named_says_what_is_missing_and_goes_on_when_called_again(two_runs, tmp_path, capsys):
    flags = ["--store", str(tmp_path), "--device", "cpu"]
    assert main(["sweep", "one", *flags]) == 0
    assert capsys.readouterr().out.endswith(f"1 run trained and stored in {tmp_path}, 0 still missing\n")
    assert [bool(store.find(spec, tmp_path)) for spec in two_runs] == [True, False]
    assert main(["sweep", *flags]) == 0
    assert "1 run trained" in capsys.readouterr().out and store.find(two_runs[1], tmp_path)
    assert main(["sweep", *flags]) == 0
    assert "0 runs trained and stored" in capsys.readouterr().out


def test_a_sweep_whose_time_does_not_suffice_says_how_much_is_missing(two_runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "rates", lambda specs, *_, **__: pace_of(specs, 1e6))
    assert main(["sweep", "both", "--store", str(tmp_path), "--time-budget", "1"]) == 0
    assert "0 runs trained" in capsys.readouterr().out and not list(tmp_path.glob("*.npz"))
    assert main(["sweep", "both", "--store", str(tmp_path), "--time-budget", "1"]) == 0
    assert ", 2 still missing" in capsys.readouterr().out


def test_status_is_a_table_for_people_and_a_list_of_objects_for_programs(two_runs, tmp_path, capsys):
    main(["sweep", "one", "--store", str(tmp_path)])
    capsys.readouterr()
    assert main(["status", "--store", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["one", "1", "1"], ["both", "2", "1"], ["all", "2", "1"]]
    assert main(["status", "both", "--json", "--store", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [list(row) for row in rows] == [["experiment", "needed", "done", "run_steps_left", "seconds_left"]] * 2
    assert [(row["experiment"], row["needed"], row["done"]) for row in rows] == [("both", 2, 1), ("all", 2, 1)]


def test_status_writes_nothing(two_runs, tmp_path, capsys):
    assert main(["status", "--store", str(tmp_path / "not there")]) == 0
    assert not list(tmp_path.iterdir())


def test_as_a_program_it_warns_in_one_line_and_goes_on(tmp_path):
    """A broken file among the stored: not two lines with a place in our code, as Python has it."""
    import campaign
    file = store.path(tmp_path, campaign.SPECS[0])
    file.write_text("damage")
    said, complained = campaign.start("status", "tiny", "--store", tmp_path).communicate(timeout=60)
    assert complained.startswith("warning: ") and complained.count("\n") == 1 and file.name in complained
    assert "tiny" in said


@pytest.mark.parametrize("number, code", [((), 130), ((15,), 143)])
def test_a_command_that_is_stopped_says_what_is_kept_and_tells_who_started_it(monkeypatch, capsys, number, code):
    def stopped(*_, **__):
        raise KeyboardInterrupt(*number)
    monkeypatch.setattr(sweep, "sweep", stopped)
    assert main(["sweep", "start_here", "--profile", "smoke", "--store", os.devnull + "x"]) == code
    assert capsys.readouterr().err == (
        "\nstopped: what had ended is stored; a sweep's other runs go on where it put them down, "
        "one run alone is kept as far as it had come\n")


def test_memory_that_gave_out_is_one_line(monkeypatch, capsys):
    def out_of_memory(*_, **__):
        raise MemoryError
    monkeypatch.setattr(sweep, "sweep", out_of_memory)
    assert main(["sweep", "start_here", "--profile", "smoke"]) == 2
    assert capsys.readouterr().err == "error: MemoryError\n"


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout


def test_importing_grok_lib_and_asking_for_help_load_no_torch():
    assert python(
        "-c", "import grok_lib, sys; print('torch' in sys.modules, 'numpy' in sys.modules)") == "False False\n"
    names = ("from grok_lib import OPERATIONS, RunSpec, History, train, get_results; import sys; "
             "print('torch' in sys.modules")
    assert python("-c", f"{names})") == "False\n"
    assert python("-c", f"{names}, train([RunSpec(modulus=5, width=4, steps=1)])[0].last_step, "
                        "'torch' in sys.modules)") == "False 1 True\n"
    assert python("-c", "import grok_lib, sys; grok_lib.OPERATIONS, grok_lib.RunSpec(), grok_lib.get_results; "
                        "print('torch' in sys.modules)") == "False\n"
    traced = subprocess.run([sys.executable, "-X", "importtime", "-m", "grok_lib", "run", "--help"],
                            capture_output=True, text=True)
    assert "usage" in traced.stdout and "examples" in traced.stdout and "torch" not in traced.stderr


def test_the_public_names_are_there_and_train_is_the_function():
    import grok_lib
    from grok_lib import OPERATIONS, History, RunSpec, get_results, train, training
    assert inspect.signature(train) == inspect.signature(training.train) and callable(get_results)
    assert "x+y" in OPERATIONS and RunSpec().steps == 100_000 and History.CURVES[0] == "step"
    with pytest.raises(AttributeError, match="nonsense"):
        grok_lib.nonsense
