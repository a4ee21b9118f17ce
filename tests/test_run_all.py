"""run_all.sh: clear refusals, a dry run that is dry, a set-up that is done once and mends itself.

Everything happens in a copy whose path has a space and an umlaut, with a stand-in for Python that only
writes down what it is asked to install, so nothing reaches the network.
"""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from grok_lib.paths import ROOT

STAND_IN = f"""#!/usr/bin/env bash
case "$1 $2" in
    "-m venv")
        echo "venv" >>calls
        mkdir -p .venv/bin
        cp "$0" .venv/bin/python
        echo "echo 'pip 1.0 from $PWD/.venv/lib (python {sys.version_info[0]}.{sys.version_info[1]})'" >.venv/bin/pip
        chmod +x .venv/bin/pip ;;
    "-m "*)
        echo "${{*:2}}" >>calls
        if [ "$2" = "$(cat broken 2>/dev/null)" ]; then echo "ERROR: $2 is broken"; exit 1; fi ;;
    *) exec {shlex.quote(sys.executable)} "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "a b ü"
    (folder / "notebooks").mkdir(parents=True)
    for name in ("run_all.sh", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    for name in ("01_one", "02_two"):
        (folder / "notebooks" / f"{name}.ipynb").write_text("{}")
    python = folder / "stand in"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return folder


def run_all(checkout, *flags, **environment):
    environment = {**os.environ, "PYTHON": str(checkout / "stand in"), **environment}
    return subprocess.run(["bash", checkout / "run_all.sh", *flags], cwd="/", env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def calls(checkout):
    """What the stand-in was asked for since the last look."""
    path = checkout / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def listing(checkout):
    return {path: path.stat().st_mtime_ns for path in checkout.rglob("*")}


def error_of(done):
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and lines[0].endswith(")"), done.stderr
    return lines[0]


INSTALL = ["venv", "pip install -r requirements.txt", "pip install --no-deps --no-build-isolation -e ."]
REBUILD = "grok_lib.tools.rebuild"


def test_help_shows_every_flag_and_examples(checkout):
    done = run_all(checkout, "--help")
    assert done.returncode == 0 and not done.stderr
    for word in "--profile --only --retrain --publish --setup --test --dry-run examples".split():
        assert word in done.stdout


@pytest.mark.parametrize("flags, word", [
    (["--nonsense"], "--nonsense"),
    (["02"], "02"),
    (["--profile"], "--profile"),
    (["--profile", "huge"], "huge"),
    (["--only"], "--only"),
    (["--only", "03"], "03"),
    (["--only", "01", "--only", "two"], "two"),
    (["--only", "*"], "*"),
    (["--retrain"], "--profile"),
    (["--publish", "--profile", "quick"], "--publish"),
    (["--publish", "--retrain", "--profile", "smoke"], "--publish"),
    (["--test", "--setup"], "--setup"),
    (["--test", "--only", "01"], "--only"),
])
def test_a_wrong_flag_is_refused_in_one_line_before_anything_is_done(checkout, flags, word):
    before = listing(checkout)
    done = run_all(checkout, *flags, PYTHON="/no/such/python")
    assert done.returncode == 2 and not done.stdout
    assert word in error_of(done)
    assert listing(checkout) == before


def test_without_a_python_of_a_supported_version_it_says_which_ones_will_do(checkout):
    old = checkout / "old"
    old.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "
                   "'import sys; sys.version_info = (3, 10, 4); exec(sys.argv[1])' \"$2\"\n")
    old.chmod(0o755)
    done = run_all(checkout, "--setup", PYTHON=str(old))
    assert done.returncode == 1
    assert "3.11, 3.12 or 3.13" in error_of(done)


def test_without_the_venv_module_it_names_the_package_to_install(checkout):
    python = checkout / "stand in"
    python.write_text(STAND_IN.replace("case ", '[ "$2" != "import ensurepip, venv" ] || exit 1\ncase ', 1))
    assert "apt install python{}.{}-venv".format(*sys.version_info) in error_of(run_all(checkout, "--setup"))
    assert not calls(checkout)


def test_a_full_disk_is_noticed_before_anything_is_installed(checkout):
    df = checkout / "bin" / "df"
    df.parent.mkdir()
    df.write_text("#!/bin/sh\necho Filesystem\necho /dev/disk 9000000 8000000 1000000 90% /\n")
    df.chmod(0o755)
    done = run_all(checkout, "--setup", PATH=f"{df.parent}:{os.environ['PATH']}")
    assert done.returncode == 1 and "976 MB" in error_of(done)
    assert not calls(checkout)


def test_a_dry_run_says_what_it_would_do_and_does_nothing(checkout):
    before = listing(checkout)
    done = run_all(checkout, "--dry-run", "--only", "2", "--profile", "quick", "--retrain")
    assert done.returncode == 0 and not done.stderr
    assert "would install" in done.stdout
    assert "02_two" in done.stdout and "01_one" not in done.stdout
    assert "profile=quick store=build/quick/results time_budget=None" in done.stdout
    assert listing(checkout) == before


def test_a_plain_dry_run_names_every_notebook_and_the_usual_parameters(checkout):
    done = run_all(checkout, "--dry-run")
    assert "01_one" in done.stdout and "02_two" in done.stdout
    assert "profile=best store=None time_budget=60.0" in done.stdout


def test_through_a_link_it_is_the_checkout_that_is_set_up_and_not_what_lies_beside_the_link(checkout, tmp_path):
    other = tmp_path / "other"
    (other / ".venv").mkdir(parents=True)
    (other / "first").symlink_to("second")
    (other / "second").symlink_to(checkout / "run_all.sh")
    before = listing(other)
    done = subprocess.run(["bash", other / "first", "--setup"],
                          env={**os.environ, "PYTHON": str(checkout / "stand in")},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and calls(checkout) == INSTALL and listing(other) == before


def test_a_set_up_beside_another_one_is_refused_and_the_lock_goes_with_its_set_up(checkout):
    lock = checkout / "build" / "setup.lock"
    lock.mkdir(parents=True)
    assert "rmdir build/setup.lock" in error_of(run_all(checkout, "--setup")) and not calls(checkout)
    lock.rmdir()
    (checkout / "broken").write_text("pip")
    assert "pip is broken" in error_of(run_all(checkout, "--setup")) and not lock.exists()
    (checkout / "broken").unlink()
    assert run_all(checkout, "--setup").returncode == 0 and not lock.exists()


def test_a_python_may_be_named_from_where_one_is(checkout):
    done = subprocess.run(["sh", checkout / "run_all.sh", "--setup"], env={**os.environ, "PYTHON": "./stand in"},
                          cwd=checkout, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and calls(checkout) == INSTALL, done.stderr


def test_a_second_run_installs_nothing(checkout):
    assert run_all(checkout, "--setup").returncode == 0
    assert calls(checkout) == INSTALL
    assert run_all(checkout, "--only", "02").returncode == 0
    assert calls(checkout) == [f"{REBUILD} --only 02"]


def test_changed_requirements_are_installed_into_the_same_venv(checkout):
    run_all(checkout, "--setup")
    calls(checkout)
    with open(checkout / "requirements.txt", "a") as file:
        file.write("# changed\n")
    run_all(checkout, "--setup")
    assert calls(checkout) == INSTALL[1:]


def test_a_failed_install_shows_its_last_line_and_the_next_run_goes_on(checkout):
    (checkout / "broken").write_text("pip")
    done = run_all(checkout)
    assert done.returncode == 1
    assert "pip is broken" in error_of(done) and "build/setup.log" in error_of(done)
    assert calls(checkout) == INSTALL[:2]
    (checkout / "broken").unlink()
    assert run_all(checkout).returncode == 0
    assert calls(checkout) == [*INSTALL[1:], REBUILD]


def test_going_back_to_the_old_requirements_after_a_failed_install_installs_them_again(checkout):
    run_all(checkout, "--setup")
    requirements = checkout / "requirements.txt"
    old = requirements.read_text()
    requirements.write_text(old + "# changed\n")
    (checkout / "broken").write_text("pip")
    assert run_all(checkout, "--setup").returncode == 1
    requirements.write_text(old)
    (checkout / "broken").unlink()
    calls(checkout)
    run_all(checkout, "--setup")
    assert calls(checkout) == INSTALL[1:]


def test_a_broken_or_moved_venv_is_made_anew(checkout):
    run_all(checkout, "--setup")
    calls(checkout)
    (checkout / ".venv" / "bin" / "python").unlink()
    (checkout / ".venv" / "bin" / "pip").unlink()
    run_all(checkout, "--setup")
    assert calls(checkout) == INSTALL
    moved = checkout.rename(checkout.with_name("elsewhere"))
    run_all(moved, "--setup")
    assert calls(moved) == INSTALL


@pytest.mark.parametrize("broken, says", [
    ("", "tests passed, notebooks at the smoke profile passed"),
    ("pytest", "tests FAILED, notebooks at the smoke profile passed"),
    (REBUILD, "tests passed, notebooks at the smoke profile FAILED"),
])
def test_the_test_command_runs_tests_and_notebooks_whichever_fails(checkout, broken, says):
    run_all(checkout, "--setup")
    calls(checkout)
    (checkout / "broken").write_text(broken)
    done = run_all(checkout, "--test")
    assert calls(checkout) == ["pytest -q", f"{REBUILD} --profile smoke --retrain"]
    assert done.stdout.splitlines()[-1] == says
    assert done.returncode == (1 if broken else 0)
