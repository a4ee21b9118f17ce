"""The environment is described once, in pyproject.toml; the other two files must say the same."""

import tomllib
from importlib.metadata import PackageNotFoundError, distribution

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from grok_lib.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
PINS = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in LINES}
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]
PYTHONS = ("3.11.2", "3.12.0", "3.13.0")  # of each the oldest in use
LEFT_TO_TORCH = ("nvidia-", "cuda-", "triton")
LEFT_TO_PIP = ("aiohttp",)  # papermill asks for it on Python 3.12 only; said at the top of requirements.txt


def test_every_line_of_requirements_is_an_exact_pin():
    for line in LINES:
        requirement = Requirement(line)
        assert [clause.operator for clause in requirement.specifier] == ["=="], line
        assert "*" not in line and requirement.marker is None, line


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_every_direct_dependency_is_pinned_within_its_range(requirement):
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_torch_carries_no_local_label_and_none_of_its_cuda_libraries_is_pinned():
    assert "+" not in PINS["torch"]
    assert not [name for name in PINS if name.startswith(LEFT_TO_TORCH)]


def test_setuptools_is_pinned_so_that_the_install_of_the_project_needs_no_network():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, build):
        assert PINS[requirement.name] in requirement.specifier


@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_stand_together_on_every_python_the_project_allows(python):
    """Reads the metadata of the pinned versions that are installed here."""
    environment = {**default_environment(), "python_full_version": python, "extra": "",
                   "python_version": python.rpartition(".")[0]}
    assert python in SpecifierSet(PROJECT["requires-python"])
    for name, version in PINS.items():
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        if package.version.partition("+")[0] != version:
            continue
        assert python in SpecifierSet(package.metadata.get("Requires-Python", "")), name
        for needed in map(Requirement, package.requires or []):
            if needed.marker and not needed.marker.evaluate(environment):
                continue
            if needed.name in LEFT_TO_PIP or name == "torch" and needed.name.startswith(LEFT_TO_TORCH):
                continue
            assert PINS.get(canonicalize_name(needed.name), "no pin") in needed.specifier, f"{name} needs {needed}"


def test_conda_gets_the_same_list_and_a_python_that_the_project_allows():
    python, pip, packages = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert python.partition("=")[2] in SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"
    assert packages == {"pip": ["-r requirements.txt", "-e ."]}


def test_the_citation_names_the_version_of_the_project_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert "2201.02177" in citation["preferred-citation"]["url"]
