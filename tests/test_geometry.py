"""Cosets and circles: group theory by brute force on tuples, and points built to have a known answer."""

import itertools

import numpy as np
import pytest
from synthetic import history

from grok_lib.operations import PERMUTATIONS, permutation_index
from grok_lib.paper import geometry
from grok_lib.specs import RunSpec

ELEMENTS = list(itertools.permutations(range(5)))


def product(a, b):
    """First a, then b."""
    return tuple(b[a[i]] for i in range(5))


def inverse(a):
    return tuple(a.index(i) for i in range(5))


def closure(*generators):
    """All products of any length, by exhaustion."""
    members = set(generators)
    while len(larger := members | {product(a, b) for a in members for b in members}) > len(members):
        members = larger
    return frozenset(members)


def swaps(*pairs):
    """The permutation that swaps these pairs."""
    p = list(range(5))
    for i, j in pairs:
        p[i], p[j] = j, i
    return tuple(p)


H = closure(swaps((0, 3), (1, 4)), swaps((1, 2), (3, 4)))
NAMES, LABELS = geometry.coset_partitions()


def classes(labels):
    """The partition that labels stand for, as a set of sets of tuples."""
    return frozenset(frozenset(ELEMENTS[i] for i in np.flatnonzero(labels == c)) for c in set(labels))


def ring(k, p=97, noise=0.0, d=8):
    """Rows (p, d) on a circle that turns k times."""
    turn, rng = 2 * np.pi * k * np.arange(p) / p, np.random.default_rng(1)
    plane = np.linalg.qr(rng.normal(size=(d, 2)))[0].T
    return np.stack([np.cos(turn), np.sin(turn)], 1) @ plane + noise * rng.normal(size=(p, d))


def clusters(labels, noise=0.3):
    """Rows (n, 16) gathered around one centre a label."""
    rng = np.random.default_rng(2)
    return rng.normal(size=(labels.max() + 1, 16))[labels] + noise * rng.normal(size=(len(labels), 16))


def test_the_papers_subgroup_has_order_10_and_six_conjugates():
    generators = permutation_index(np.array(geometry.PAPER_GENERATORS))
    assert {ELEMENTS[i] for i in geometry.subgroup(generators)} == H and len(H) == 10
    by_force = {frozenset(product(product(g, h), inverse(g)) for h in H) for g in ELEMENTS}
    normaliser = [g for g in ELEMENTS if {product(product(g, h), inverse(g)) for h in H} == H]
    assert len(by_force) == 6 == 120 / len(normaliser)
    found = [frozenset(ELEMENTS[i] for i in geometry.subgroup(c)) for c in geometry.conjugates(generators)]
    assert found[0] == H and set(found) == by_force and len(found) == 6


def test_left_and_right_cosets_are_those_of_the_definition():
    members = np.array([ELEMENTS.index(h) for h in H])
    left, right = (classes(geometry.cosets(members, side)) for side in ("left", "right"))
    assert left == {frozenset(product(g, h) for h in H) for g in ELEMENTS}
    assert right == {frozenset(product(h, g) for h in H) for g in ELEMENTS} and left != right
    assert all((geometry.cosets(members, side)[members] == 0).all() for side in ("left", "right"))


def test_the_twelve_partitions_are_distinct_named_and_each_of_12_classes_of_10():
    assert LABELS.shape == (12, 120) and len({classes(labels) for labels in LABELS}) == 12 == len(set(NAMES))
    assert all((np.bincount(labels) == 10).all() and len(np.bincount(labels)) == 12 for labels in LABELS)
    assert NAMES[:2] == ("left cosets of ⟨(0 3)(1 4), (1 2)(3 4)⟩", "right cosets of ⟨(0 3)(1 4), (1 2)(3 4)⟩")
    conjugates = {frozenset(product(product(g, h), inverse(g)) for h in H) for g in ELEMENTS}
    assert {classes(labels) for labels in LABELS[::2]} == {
        frozenset(frozenset(product(g, h) for h in K) for g in ELEMENTS) for K in conjugates}


def test_every_coset_lies_in_one_half_of_even_or_odd_permutations():
    signs = [np.linalg.det(np.eye(5)[p]) for p in PERMUTATIONS]
    np.testing.assert_array_equal(geometry.parity(), np.array(signs) < 0)
    for labels in LABELS:
        assert all(len(set(geometry.parity()[labels == c])) == 1 for c in range(12))


def test_neighbour_agreement_is_counted_point_by_point():
    points, labels = np.array([[0.0], [1], [2.1], [9], [10]]), np.array([[0, 0, 1, 1, 1], [0, 1, 0, 1, 0]])
    # the two nearest of each: 12, 02, 10, 42, 32
    np.testing.assert_array_equal(geometry.nearest(points, 2), [[1, 2], [0, 2], [1, 0], [4, 2], [3, 2]])
    np.testing.assert_allclose(geometry.agreement(points, labels, 2), [6 / 10, 3 / 10])
    assert geometry.agreement(points, labels[0], 2) == pytest.approx(6 / 10)


def test_the_agreement_of_noise_is_chance():
    noise = np.random.default_rng(0).normal(size=(120, 16))
    assert geometry.agreement(noise, LABELS).mean() == pytest.approx(9 / 119, abs=0.01)


def test_the_partition_that_the_points_were_made_of_is_found():
    found = geometry.best_partition(clusters(LABELS[7]), LABELS, permutations=200)
    assert found.which == 7 and found.score > 0.8 and found.p_value == 1 / 201
    assert found.score == found.scores[7] == found.scores.max()
    np.testing.assert_allclose(found.scores, geometry.agreement(clusters(LABELS[7]), LABELS))


def test_the_best_of_twelve_in_noise_is_no_surprise():
    p_values = [geometry.best_partition(np.random.default_rng(seed).normal(size=(120, 8)), LABELS, 100).p_value
                for seed in range(12)]
    assert 0.25 < np.mean(p_values) < 0.75  # tested one by one, the best of twelve would look like a find


def test_halves_that_lie_apart_look_like_cosets_until_elements_change_places_within_them():
    halves = clusters(geometry.parity())
    assert geometry.best_partition(halves, LABELS, 200).p_value == 1 / 201
    assert geometry.best_partition(halves, LABELS, 200, within=geometry.parity()).p_value > 0.05
    cosets = geometry.best_partition(clusters(LABELS[3]), LABELS, 200, within=geometry.parity())
    assert (cosets.which, cosets.p_value) == (3, 1 / 201)


def test_the_same_seed_gives_the_same_p_value():
    noise = np.random.default_rng(3).normal(size=(120, 8))
    assert geometry.best_partition(noise, LABELS, 50).p_value == geometry.best_partition(noise, LABELS, 50).p_value
    assert geometry.line_test(noise, 3, 50).p_value == geometry.line_test(noise, 3, 50).p_value


def test_the_spectrum_finds_each_frequency_with_its_share_of_the_variance():
    shares = geometry.spectrum(np.hstack([2 * ring(12), ring(30)]) + 5)
    assert shares.shape == (48,) and shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares[[11, 29]], [0.8, 0.2])
    noise = np.random.default_rng(0).normal(size=(97, 128))
    np.testing.assert_allclose(geometry.spectrum(noise), 1 / 48, rtol=0.5)


def test_a_step_joins_neighbours_on_the_circle_of_its_frequency():
    assert geometry.partner(12, 97) == 8 == geometry.PAPER_STEP and geometry.partner(8, 97) == 12
    for k, p in ((1, 97), (23, 97), (48, 97), (4, 11)):
        found, step = geometry.dominant_step(geometry.spectrum(ring(k, p)))
        apart = geometry.distances(ring(k, p))
        assert found == k and 1 <= step <= p // 2
        assert {step, p - step} == set(np.argsort(apart[0])[1:3])  # the two nearest of element 0


def test_joins_are_as_long_as_chords_of_the_circle():
    p, k = 11, 3
    chords = [2 * np.sin(np.pi * k * s / p) for s in range(1, p)]  # from 0 to s on a unit circle
    lengths = np.abs(chords) / np.mean(np.abs(chords))
    np.testing.assert_allclose(geometry.join_lengths(ring(k, p)), lengths[:5])


def test_the_step_of_the_circle_is_found_and_is_no_accident():
    points = ring(12, noise=0.1)
    found = geometry.line_test(points, permutations=100)
    assert found.which == 8 and found.p_value == 1 / 101 and found.score == geometry.join_lengths(points)[7]
    assert geometry.line_test(points, 8, 100).p_value == 1 / 101
    assert geometry.line_test(points, 97 - 8, 100).which == 8


def test_a_step_of_another_circle_is_no_find():
    assert geometry.line_test(ring(12, noise=0.1), 4, 100).p_value > 0.05  # 4 steps: half a turn of frequency 12
    noises = [np.random.default_rng(seed).normal(size=(97, 4)) for seed in range(10)]
    for step in (8, None):  # one step, and the best of all
        assert 0.25 < np.mean([geometry.line_test(noise, step, 60).p_value for noise in noises]) < 0.75


def test_a_tsne_plane_is_the_same_twice_and_keeps_clusters_apart():
    points, labels = clusters(np.repeat(np.arange(4), 10)), np.repeat(np.arange(4), 10)
    plane = geometry.tsne(points)
    assert plane.shape == (40, 2) and geometry.agreement(plane, labels) == 1
    np.testing.assert_array_equal(plane, geometry.tsne(points))
    scattered = [geometry.tsne(points[::4], seed=seed, init="random") for seed in (0, 0, 1)]
    assert (scattered[0] == scattered[1]).all() and (scattered[0] != scattered[2]).any()


def test_tiny_tables_have_a_plane_too():
    assert np.isfinite(geometry.tsne(ring(3, 11))).all()


def test_survival_tells_a_picture_of_clusters_from_one_of_noise():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 10))
    clear = geometry.survival(clusters(labels, noise=0.01), perplexities=(10, 15), seeds=(0,))
    assert [(row["perplexity"], row["seed"]) for row in clear] == [(10, 0), (15, 0)]
    assert all(row["kept"] == 1 for row in clear)
    noise = geometry.survival(np.random.default_rng(0).normal(size=(40, 16)), perplexities=(10,), seeds=(0,))
    assert noise[0].keys() == {"perplexity", "seed", "kept"} and 9 / 39 < noise[0]["kept"] < 0.8


def test_the_rows_of_the_elements_come_without_those_of_the_two_tokens():
    output = np.arange(13 * 4, dtype=np.float32).reshape(13, 4)
    kept = history(RunSpec(modulus=11, steps=1000, keep=("output",)), kept={"output": output})
    np.testing.assert_array_equal(geometry.element_rows(kept), output[:11])
    s5 = history(RunSpec(operation="xy in S5", steps=1000), kept={"output": np.zeros((122, 4), np.float32)})
    assert geometry.element_rows(s5).shape == (120, 4)


def test_a_history_without_output_rows_or_with_broken_ones_says_what_to_do():
    with pytest.raises(ValueError, match='keep=\\("output",\\)'):
        geometry.element_rows(history())
    with pytest.raises(ValueError, match="diverged.*leave it out"):
        geometry.element_rows(history(kept={"output": np.full((99, 4), np.nan)}, stopped_because="diverged"))


def sign(p):
    return (-1) ** sum(p[i] > p[j] for i, j in itertools.combinations(range(5), 2))


def cycle_lengths(p):
    """The lengths of the cycles, longest first, by walking along them."""
    lengths, left = [], set(range(5))
    while left:
        point = start = left.pop()
        length = 1
        while (point := p[point]) != start:
            left.remove(point)
            length += 1
        lengths.append(length)
    return tuple(sorted(lengths, reverse=True))


LENGTHS = {"identity": (1, 1, 1, 1, 1), "transposition": (2, 1, 1, 1), "double transposition": (2, 2, 1),
           "3-cycle": (3, 1, 1), "3-cycle and transposition": (3, 2), "4-cycle": (4, 1), "5-cycle": (5,)}


def test_the_kind_of_a_quotient_is_its_cycle_type_on_either_side():
    names = list(geometry.KINDS)
    for a, p in enumerate(ELEMENTS):
        for b, q in enumerate(ELEMENTS):
            kind = LENGTHS[names[geometry.kinds()[b, a]]]
            assert kind == cycle_lengths(product(q, inverse(p))) == cycle_lengths(product(inverse(p), q))


def test_characters_are_orthonormal_and_belong_to_the_representations_they_are_named_by():
    sizes = np.array([sum(cycle_lengths(p) == lengths for p in ELEMENTS) for lengths in LENGTHS.values()])
    table = np.array(list(geometry.CHARACTERS.values()))
    assert np.array_equal(table * sizes @ table.T, 120 * np.eye(7, dtype=int))  # so they are all seven
    signs = np.array([sign(next(p for p in ELEMENTS if cycle_lengths(p) == lengths)) for lengths in LENGTHS.values()])
    # The conjugate partition
    for name, mirrored in (("5", "1 1 1 1 1"), ("4 1", "2 1 1 1"), ("3 2", "2 2 1"), ("3 1 1", "3 1 1")):
        assert np.array_equal(geometry.CHARACTERS[mirrored], signs * geometry.CHARACTERS[name])
    pairs = list(itertools.combinations(range(5), 2))
    # Points: 5 + 4 1; pairs of them: 5 + 4 1 + 3 2
    for name, (points, of_pairs) in {"4 1": (1, 1), "3 2": (0, 1)}.items():
        moved = [sum(p[i] == i for i in range(5)) for p in ELEMENTS]
        both = [sum({p[i], p[j]} == {i, j} for i, j in pairs) for p in ELEMENTS]
        chi = [geometry.CHARACTERS[name][list(LENGTHS.values()).index(cycle_lengths(p))] for p in ELEMENTS]
        assert (np.dot(moved, chi), np.dot(both, chi)) == (120 * points, 120 * of_pairs)


def test_rows_made_of_one_representation_have_all_their_variance_there_and_noise_has_it_everywhere():
    matrices = np.array([np.eye(5)[list(p)].ravel() for p in ELEMENTS])  # where each point goes: 5 + 4 1
    signs = np.array([[sign(p)] for p in ELEMENTS])
    for rows, name in ((matrices, "4 1"), (matrices * signs, None), (signs.astype(float), "1 1 1 1 1")):
        shares = geometry.representations(rows + 7)
        assert sum(shares.values()) == pytest.approx(1)
        if name:
            assert shares[name] == pytest.approx(1)
        else:  # 2 1 1 1, and the sign itself
            assert (shares["2 1 1 1"] + shares["1 1 1 1 1"] == pytest.approx(1)
                    and min(shares["2 1 1 1"], shares["1 1 1 1 1"]) > 0.1)
    noise = geometry.representations(np.random.default_rng(0).normal(size=(120, 400)))
    assert noise == pytest.approx({name: chi[0] ** 2 / 119 for name, chi in geometry.CHARACTERS.items() if name != "5"},
                                  abs=0.02)


def test_the_nearest_of_rows_that_say_where_each_point_goes_are_a_transposition_away():
    shares = geometry.kinds_of_nearest(np.array([np.eye(5)[list(p)].ravel() for p in ELEMENTS]))
    assert shares["transposition"] == 1 and sum(shares.values()) == 1
    # In pairs of indices
    paired = np.array([np.concatenate([[hash_] * 2 for hash_ in np.eye(60)[k // 2]]) for k in range(120)])
    partner = {k: k + 1 - 2 * (k % 2) for k in range(120)}
    expected = [cycle_lengths(product(ELEMENTS[partner[k]], inverse(ELEMENTS[k]))) for k in range(120)]
    found = geometry.kinds_of_nearest(paired, neighbours=1)
    assert found == {name: pytest.approx(np.mean([lengths == e for e in expected]))
                     for name, lengths in LENGTHS.items()}
