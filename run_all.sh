#!/usr/bin/env bash
# Set up .venv if needed, run every notebook, rebuild every figure. Needs bash and Python 3.11 to 3.13.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"   # as sh, which may be another shell
set -euo pipefail
self=${BASH_SOURCE[0]}
while [ -L "$self" ]; do                           # through a link, too, it is the checkout that is set up
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=$(dirname -- "$self")/$link ;; esac
done
case ${PYTHON:-} in /*) ;; */*) PYTHON=$PWD/$PYTHON ;; esac
CDPATH='' cd -P -- "$(dirname -- "$self")"
unset PYTHONHOME PYTHONPATH                        # another project's packages must not leak into .venv
unset PIP_CONSTRAINT PIP_TARGET PIP_PREFIX         # some containers set them, against our pins
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0  # some clusters set --user, which fails in a .venv
export THP_MEM_ALLOC_ENABLE=1                      # torch in huge pages: faster on the CPU

usage() {
    cat <<'END'
usage: ./run_all.sh [--profile smoke|quick|overnight|paper|best] [--only NN]... [--retrain | --publish] [--dry-run]
       ./run_all.sh --setup | --test [--dry-run]

  --profile NAME  scale of the runs shown (default: best, the real thing)
  --only NN       run this notebook only, by number or by name; may be given again
  --retrain       train from nothing at that profile, in build/NAME/results; shipped runs are not used
  --publish       put the executed notebooks and their figures into notebooks/ and figures/; runs in build/results are not used
  --setup         set up .venv and stop
  --test          the tests, then every notebook trained from nothing at the smoke profile
  --dry-run       say what would be done, change nothing
  --help          this text

examples:
  ./run_all.sh                                every notebook; what the shipped runs hold is not trained again
  ./run_all.sh --only 00                      one of them
  ./run_all.sh --profile quick --retrain      all of it from nothing, at the scale of two CPU cores
  PYTHON=python3.12 ./run_all.sh --setup      choose the Python that .venv is made with
END
}

fail() { echo "error: $2" >&2; exit "$1"; }   # fail STATUS "what (remedy)"

read_flags() {
    profile=best retrain='' publish='' mode=run dry='' names=() passed=()   # passed: what goes on to grok_lib.tools.rebuild
    while [ $# -gt 0 ]; do
        case $1 in
            --profile|--only)
                [ $# -gt 1 ] || fail 2 "$1 needs a value (see ./run_all.sh --help)"
                [ "$1" = --only ] && names+=("$2") || profile=$2
                passed+=("$1" "$2"); shift ;;
            --retrain) retrain=yes; passed+=("$1") ;;
            --publish) publish=yes; passed+=("$1") ;;
            --setup|--test)
                [ "$mode" = run ] || [ "--$mode" = "$1" ] || fail 2 "$1 and --$mode do not go together (choose one)"
                mode=${1#--} ;;
            --dry-run) dry=yes ;;
            --help|-h) usage; exit 0 ;;
            *) fail 2 "unknown flag $1 (see ./run_all.sh --help)" ;;
        esac
        shift
    done
    case $profile in
        smoke|quick|overnight|paper|best) ;;
        *) fail 2 "no profile $profile (choose smoke, quick, overnight, paper or best)" ;;
    esac
    [ "$mode" = run ] || [ ${#passed[@]} -eq 0 ] || fail 2 "--$mode does not go with ${passed[0]} (drop one)"
    [ -z "$retrain" ] || [ "$profile" != best ] || fail 2 "--retrain needs a scale (add --profile smoke, quick, overnight or paper)"
    [ -z "$publish" ] || [ "$profile$retrain" = best ] || fail 2 "--publish is for profile best (drop --profile and --retrain)"
}

choose_notebooks() {   # sets notebooks: those that --only names, or all
    local name found
    notebooks=(notebooks/[0-9][0-9]_*.ipynb)
    [ -e "${notebooks[0]}" ] || notebooks=()
    [ ${#names[@]} -eq 0 ] || notebooks=()
    for name in ${names[@]+"${names[@]}"}; do   # spelled so that bash before 4.4 bears an empty list
        name=${name##*/} name=${name%.ipynb}
        case $name in
            [0-9]) found=(notebooks/0"$name"_*.ipynb) ;;
            [0-9][0-9]) found=(notebooks/"$name"_*.ipynb) ;;
            *) found=(notebooks/"$name".ipynb) ;;
        esac
        [ -e "${found[0]}" ] || fail 2 "no notebook $name (look in notebooks/)"
        notebooks+=("${found[0]}")
    done
}

# What .venv was made from. While its stamp says the same, there is nothing to install.
fingerprint() {
    { cat requirements.txt pyproject.toml; "$1" -c 'import sys; print(sys.version_info[:2])'; pwd; } 2>/dev/null | cksum
}
ready() {
    [ -x .venv/bin/python ] && [ "$(cat .venv/stamp 2>/dev/null)" = "$(fingerprint "${PYTHON:-.venv/bin/python}")" ]
}

find_python() {   # sets python
    local candidates=(python3 python3.13 python3.12 python3.11)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for python in "${candidates[@]}"; do
        "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && return
    done
    fail 1 "${PYTHON:+$PYTHON is }no Python 3.11, 3.12 or 3.13 (install one, as with: uv python install 3.13; or name it: PYTHON=/path/to/it ./run_all.sh)"
}

step() {   # run a command into the log; if it fails, its last error is ours
    "$@" >>build/setup.log 2>&1 && return
    local last; last=$(grep -iE '^ *error:' build/setup.log | tail -n 1) || last=$(tail -n 1 build/setup.log)
    fail 1 "${last#ERROR: } (no network, or no wheel for $(uname -sm)? PyTorch needs macOS 14 or glibc 2.28; all of it is in build/setup.log; run this again to go on)"
}

set_up() {
    local free version
    find_python
    case $("$python" -c 'import platform; print(platform.system(), platform.machine())') in
        "Darwin x86_64") fail 1 "PyTorch has no wheels for Intel Macs, nor for an Intel Python on Apple silicon (use Linux, or an arm64 Python)" ;;
    esac
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail 1 "$python has no venv module (on Debian or Ubuntu: apt install python$version-venv)"
    mkdir -p build 2>/dev/null && [ -w . ] && [ -w build ] || fail 1 "cannot write to $PWD and its build/ (copy the checkout to a folder of your own)"
    mkdir build/setup.lock 2>/dev/null || fail 1 "another set-up is running here (if not: rmdir build/setup.lock)"
    trap 'rmdir build/setup.lock' EXIT
    : >build/setup.log
    rm -f .venv/stamp   # an interrupted set-up leaves no stamp, so the next call goes on with it
    # pip says where it runs from: that shows a broken, copied or moved .venv, or one of another Python.
    if [[ "$(.venv/bin/pip --version 2>/dev/null)" != *" from $PWD/.venv/"*"(python $version)" ]]; then
        free=$(df -Pk . | awk 'NR == 2 { for (i = 2; i <= NF; i++) if ($i ~ /^[0-9]+%$/) { print int($(i - 1) / 1024); exit } }')   # a device's name may have spaces
        [ "$free" -ge 3000 ] || fail 1 "only $free MB free here (make room: .venv takes 2 GB, with torch's CUDA libraries 6 GB)"
        echo "making .venv with Python $version ..."
        step "$python" -m venv --clear .venv
    fi
    echo "installing requirements.txt into .venv (once, a few minutes) ..."
    step .venv/bin/python -m pip install -r requirements.txt
    step .venv/bin/python -m pip install --no-deps --no-build-isolation -e .
    fingerprint .venv/bin/python >.venv/stamp
    rmdir build/setup.lock
    trap - EXIT   # exec would skip it
}

dry_run() {
    local store=None budget=60.0 folder=build
    if ready; then echo "set-up: .venv is ready"; else echo "set-up: would install requirements.txt into .venv"; fi
    case $mode in
        setup) return ;;
        test) echo "would run: the tests"; profile=smoke retrain=yes ;;
    esac
    [ -z "$retrain" ] || { folder=build/$profile store=build/$profile/results budget=None; [ "$profile" = smoke ] || echo "would set aside: $store, where it holds runs"; }
    [ -z "$publish" ] || folder=build/publish
    printf 'would run: %s\n' ${notebooks[@]+"${notebooks[@]}"}
    echo "with: profile=$profile store=$store time_budget=$budget"
    echo "into: $folder/{notebooks,figures,results}${publish:+, then notebooks/ and figures/}"
}

run_tests() {   # both always run; the last line says what passed
    local tested=passed ran=passed
    trap 'exit 130' INT
    MPLBACKEND=agg .venv/bin/python -m pytest -q || tested=FAILED
    .venv/bin/python -m grok_lib.tools.rebuild --profile smoke --retrain || ran=FAILED
    echo "tests $tested, notebooks at the smoke profile $ran"
    [ "$tested$ran" = passedpassed ]
}

read_flags "$@"
choose_notebooks
if [ -n "$dry" ]; then dry_run; exit 0; fi
ready || set_up
case $mode in
    setup) echo "ready. Open the notebooks with: .venv/bin/jupyter lab" ;;
    test) run_tests ;;
    run) exec .venv/bin/python -m grok_lib.tools.rebuild ${passed[@]+"${passed[@]}"} ;;
esac
