"""`python -m grok_lib`: instant help, one line for a mistake, a run that is stored."""

import subprocess
import sys

import pytest

from grok_lib import store
from grok_lib.__main__ import main
from grok_lib.specs import RunSpec

TINY = ["--modulus", "7", "--width", "16", "--steps", "12"]


def test_a_run_is_trained_described_and_stored(tmp_path, capsys):
    assert main(["run", *TINY, "--store", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "x+y (mod 7)" in said and "validation accuracy" in said and "update 12 of 12" in said
    assert store.find(RunSpec(modulus=7, width=16, steps=12), tmp_path) is not None


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


@pytest.mark.parametrize("arguments", [[], ["walk"], ["run", "--steps", "many"], ["run", "--stpes", "3"], ["run", "--seed"]])
def test_a_flag_or_a_command_that_is_none_is_one_line_too(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1 and "--help" in said


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout


def test_importing_grok_lib_and_asking_for_help_load_no_torch():
    assert python("-c", "import grok_lib, sys; print('torch' in sys.modules, 'numpy' in sys.modules)") == "False False\n"
    assert python("-c", "import grok_lib, sys; grok_lib.OPERATIONS, grok_lib.RunSpec(), grok_lib.get_results; "
                        "print('torch' in sys.modules)") == "False\n"
    traced = subprocess.run([sys.executable, "-X", "importtime", "-m", "grok_lib", "run", "--help"], capture_output=True, text=True)
    assert "usage" in traced.stdout and "examples" in traced.stdout and "torch" not in traced.stderr


def test_the_public_names_are_there_and_train_is_the_function():
    from grok_lib import OPERATIONS, History, RunSpec, get_results, train
    import grok_lib.training
    assert train is grok_lib.training.train and callable(get_results)
    assert "x+y" in OPERATIONS and RunSpec().steps == 100_000 and History.CURVES[0] == "step"
    with pytest.raises(AttributeError, match="nonsense"):
        grok_lib.nonsense
