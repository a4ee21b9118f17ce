"""Notebook 05's tables: networks whose rows are made to lie in representations, in cosets or on a line, and noise."""

import itertools

import numpy as np
from synthetic import history
from test_geometry import LABELS, ring

from grok_lib.operations import PERMUTATIONS, permutation_index
from grok_lib.paper import geometry, geometry_tables
from grok_lib.specs import RunSpec

NOISE = np.random.default_rng(0).normal(size=(120, 16))
# The permutation matrices: of them, without their mean, all is "4 1"
MATRICES = np.eye(5)[PERMUTATIONS].reshape(120, 25)
COSETS = np.eye(12)[LABELS[0]]
S5 = {"matrices": MATRICES, "cosets": COSETS + 0.01 * NOISE[:, :12], "noise": NOISE}


def orbits(members, things, act):
    """How many classes a group cuts things into."""
    return len({frozenset(act(p, thing) for p in members) for thing in things})


def test_what_a_subgroup_leaves_in_place_is_what_counting_orbits_gives():
    """Of the representation on points ("5" and "4 1"), on pairs (those and "3 2") and on its own cosets (each as often
    as it leaves dimensions)."""
    left, members = (geometry.left_in_place(),
                     PERMUTATIONS[geometry.subgroup(permutation_index(np.array(geometry.PAPER_GENERATORS)))])
    assert left["5"] + left["4 1"] == orbits(members, range(5), lambda p, i: p[i])
    pairs = itertools.combinations(range(5), 2)
    assert left["5"] + left["4 1"] + left["3 2"] == orbits(members, pairs,
                                                           lambda p, pair: frozenset(p[list(pair)].tolist()))
    assert sum(left[name] * chi[0] for name, chi in geometry.CHARACTERS.items()) == 12
    assert set(geometry.left_in_place(((0, 1, 2, 3, 4),)).values()) == {1, 4, 5, 6}  # nobody moves: all dimensions


def test_likeness_is_the_sum_over_representations_for_rows_of_one_length():
    assert all(geometry.likeness_apart(rows) < 0.01 for rows in (MATRICES, COSETS))


def test_a_network_is_predicted_to_gather_by_its_representation_and_the_table_says_whether_it_does():
    table = geometry_tables.predictions(S5)
    assert table.loc["matrices", ["strongest", "its share", "predicted"]].tolist() == [
        "4 1", "100%", "no more than chance"]
    assert table.loc["cosets", "strongest"] in ("3 2", "2 2 1") and table.loc["cosets", "predicted"] == "above chance"
    assert table.loc["cosets", ["share the coset", "p, within even and odd"]].tolist() == ["100%", "0.0005"]
    assert float(table.loc["noise", "p, within even and odd"]) > 0.01 and geometry_tables.predictions({}).empty


def test_each_table_of_s5_has_a_row_for_each_network_and_one_for_chance():
    for table in (geometry_tables.cosets, geometry_tables.kinds, geometry_tables.representations):
        assert list(table(S5).index) == [*S5, "chance"] and list(table({}).index) == ["chance"]
    assert geometry_tables.cosets(S5).loc["cosets"].tolist() == [
        "100.0%", "0.0005", "0.0005", geometry.coset_partitions()[0][0]]
    assert geometry_tables.cosets({}).loc["chance", "share the coset"] == "7.6%"
    assert geometry_tables.representations(S5).loc["matrices", "4 1"] == "100%"
    # Of all others they leave most points in place
    assert geometry_tables.kinds(S5).loc["matrices", "transposition"] == "100%"


def test_the_table_of_lines_names_the_papers_step_and_the_networks_own():
    line = geometry_tables.lines({"ring": ring(44)}).loc["ring"]  # 11 · 44 = 484 = 5 · 97 - 1
    assert (line["shortest"].startswith("x + 11: ") and line["shortest"].endswith("(p = 0.0005)")
            and line["strongest frequency"] == "44, for x + 11")
    assert "x to x + 8" in line and geometry_tables.lines({}).empty


def test_the_survival_table_has_a_row_for_each_network_and_perplexity_and_none_for_no_network():
    table = geometry_tables.survival({"a": np.random.default_rng(0).normal(size=(24, 3))})
    assert list(table.index) == [("a", 10), ("a", 30), ("a", 50)] and list(table.columns) == ["min", "mean", "max"]
    assert geometry_tables.survival({}).empty


def test_rows_are_those_of_one_operation_under_names_that_tell_networks_apart_and_none_of_a_run_that_diverged():
    spec = RunSpec(modulus=11, steps=1000, keep=("output",))
    output = {"output": np.ones((13, 4), np.float32)}
    runs = [history(spec, kept=output), history(spec.but(seed=1), kept=output),
            history(spec.but(operation="x-y"), kept=output),
            history(spec.but(seed=2), kept={"output": np.full((13, 4), np.nan)}, stopped_because="diverged")]
    rows = geometry_tables.rows_of(runs, "x+y")
    assert list(rows) == [f"x+y, 50%, decay 1, seed {seed}, 1,000 updates (validation 100%)" for seed in (0, 1)]
    assert all(each.shape == (11, 4) for each in rows.values())
