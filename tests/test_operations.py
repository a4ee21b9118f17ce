"""Promises of `grok_lib.operations`: the tables are the paper's, by brute force and by group theory."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from grok_lib.operations import OPERATIONS, PERMUTATIONS, cycle_notation, operation, permutation_index

NAMES = ["x+y", "x-y", "x*y", "x/y", "x/y if y odd else x-y", "x^2+y^2", "x^2+xy+y^2", "x^2+xy+y^2+x", "x^3+xy",
         "x^3+xy^2+y", "xy in S5", "xyx^-1 in S5", "xyx in S5"]
FIELD_NAMES, GROUP_NAMES = NAMES[:10], NAMES[10:]
DIVIDING = ["x/y", "x/y if y odd else x-y"]

# The paper's definitions once more, on plain Python integers; None where there is no answer.
by_inverse = lambda x, y, p: x * pow(y, -1, p) % p if y else None
BY_HAND = {
    "x+y": lambda x, y, p: (x + y) % p,
    "x-y": lambda x, y, p: (x - y) % p,
    "x*y": lambda x, y, p: (x * y) % p,
    "x/y": by_inverse,
    "x/y if y odd else x-y": lambda x, y, p: by_inverse(x, y, p) if y & 1 else (x - y) % p,
    "x^2+y^2": lambda x, y, p: (pow(x, 2, p) + pow(y, 2, p)) % p,
    "x^2+xy+y^2": lambda x, y, p: (x * (x + y) + y * y) % p,
    "x^2+xy+y^2+x": lambda x, y, p: (x * (x + y + 1) + y * y) % p,
    "x^3+xy": lambda x, y, p: x * (pow(x, 2, p) + y) % p,
    "x^3+xy^2+y": lambda x, y, p: (pow(x, 3, p) + x * pow(y, 2, p) + y) % p,
}

S5 = sorted(itertools.permutations(range(5)))  # lexicographic: element 0 is the identity


def first_then(a, b):
    """The permutation that does a, then b."""
    return tuple(b[a[i]] for i in range(5))


def undo(a):
    """The inverse permutation, by looking up where each point came from."""
    return tuple(a.index(i) for i in range(5))


def cycle_type(a):
    """The sorted lengths of a permutation's cycles."""
    lengths, left = [], set(range(5))
    while left:
        at, length = min(left), 0
        while at in left:
            left.remove(at)
            at, length = a[at], length + 1
        lengths.append(length)
    return tuple(sorted(lengths))


def order_of(table, element):
    """The order of an element, by multiplying until the identity comes back (121: it never did)."""
    power, count = element, 1
    while power != 0 and count <= 120:
        power, count = table[power, element], count + 1
    return count


def test_the_thirteen_operations_carry_the_papers_names():
    assert sorted(OPERATIONS) == sorted(NAMES)
    assert all(op.name == name for name, op in OPERATIONS.items())


@pytest.mark.parametrize("p", [97, 11])
@pytest.mark.parametrize("name", FIELD_NAMES)
def test_every_field_table_equals_plain_integer_arithmetic(name, p):
    expected = [[BY_HAND[name](x, y, p) for y in range(p)] for x in range(p)]
    expected = [[-1 if c is None else c for c in row] for row in expected]
    assert operation(name, p).table.tolist() == expected


@pytest.mark.parametrize("name", [name for name in FIELD_NAMES if name not in DIVIDING])
def test_operations_that_never_divide_work_for_a_composite_modulus(name):
    expected = [[BY_HAND[name](x, y, 12) for y in range(12)] for x in range(12)]
    assert operation(name, 12).table.tolist() == expected


def test_division_undoes_multiplication_for_every_pair():
    p = 97
    table = OPERATIONS["x/y"].table
    for x in range(p):
        for y in range(1, p):
            assert table[x, y] * y % p == x  # not floor division, and not multiplication titled "division"


def test_division_is_undefined_exactly_at_zero():
    table = OPERATIONS["x/y"].table
    assert (table[:, 0] == -1).all()
    assert (table[:, 1:] >= 0).all()


def test_the_mixed_operation_divides_by_odd_elements_and_subtracts_even_ones():
    mixed, quotient, difference = (OPERATIONS[name].table for name in ("x/y if y odd else x-y", "x/y", "x-y"))
    assert (mixed[:, 1::2] == quotient[:, 1::2]).all()
    assert (mixed[:, 0::2] == difference[:, 0::2]).all()  # 0 counts as even, so nothing is undefined


def test_each_operation_has_as_many_equations_as_the_paper_says():
    expected = {name: 97 * 97 for name in FIELD_NAMES} | {name: 120 * 120 for name in GROUP_NAMES} | {"x/y": 97 * 96}
    assert {name: len(op.equations) for name, op in OPERATIONS.items()} == expected


def test_a_table_is_as_wide_as_the_set_it_is_on():
    for name, op in OPERATIONS.items():
        assert op.size == (97 if name in FIELD_NAMES else 120)
        assert op.table.shape == (op.size, op.size)
        assert op.table.max() == op.size - 1
    assert operation("x+y", 11).size == 11


@pytest.mark.parametrize("name", NAMES)
def test_equations_are_the_defined_cells_row_by_row(name):
    op = OPERATIONS[name]
    expected = [[x, y, c] for x, row in enumerate(op.table.tolist()) for y, c in enumerate(row) if c != -1]
    assert op.equations.tolist() == expected
    assert op.equations.dtype == np.int64


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_int64_and_cannot_be_written_to(name):
    table = OPERATIONS[name].table
    assert table.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1


def test_exactly_the_symmetric_formulas_give_commutative_tables():
    commutative = {name for name, op in OPERATIONS.items() if (op.table == op.table.T).all()}
    assert commutative == {"x+y", "x*y", "x^2+y^2", "x^2+xy+y^2"}


def test_composition_applies_x_first_and_then_y():
    # x swaps 0 and 1, y swaps 1 and 2. First x, then y: 0 -> 1 -> 2, 1 -> 0 -> 0, 2 -> 2 -> 1.
    names = ["".join(map(str, p)) for p in PERMUTATIONS]
    x, y = names.index("10234"), names.index("02134")
    table = OPERATIONS["xy in S5"].table
    assert names[table[x, y]] == "20134"
    assert names[table[y, x]] == "12034"


def test_conjugation_and_sandwich_agree_with_a_worked_example():
    # x: 0 -> 1 -> 2 -> 0, y swaps 0 and 1, and everything is read from the left.
    # x, y, x^-1: 0 -> 1 -> 0 -> 2, 1 -> 2 -> 2 -> 1, 2 -> 0 -> 1 -> 0.
    # x, y, x:    0 -> 1 -> 0 -> 1, 1 -> 2 -> 2 -> 0, 2 -> 0 -> 1 -> 2.
    names = ["".join(map(str, p)) for p in PERMUTATIONS]
    x, y = names.index("12034"), names.index("10234")
    assert names[OPERATIONS["xyx^-1 in S5"].table[x, y]] == "21034"
    assert names[OPERATIONS["xyx in S5"].table[x, y]] == "10234"


def test_every_S5_table_equals_composition_in_plain_python():
    at = {permutation: i for i, permutation in enumerate(S5)}
    product, conjugate, sandwich = (OPERATIONS[name].table.tolist() for name in GROUP_NAMES)
    for x, y in itertools.product(S5, S5):
        xy, here = first_then(x, y), (at[x], at[y])
        assert product[here[0]][here[1]] == at[xy]
        assert conjugate[here[0]][here[1]] == at[first_then(xy, undo(x))]
        assert sandwich[here[0]][here[1]] == at[first_then(xy, x)]


def test_composition_in_S5_is_associative_for_all_1728000_triples():
    table = OPERATIONS["xy in S5"].table
    for x in range(120):
        assert (table[table[x]] == table[x][table]).all()  # rows y, columns z: (xy)z == x(yz)


def test_composition_in_S5_has_an_identity_and_inverses():
    table = OPERATIONS["xy in S5"].table
    assert table[0].tolist() == table[:, 0].tolist() == list(range(120))
    x, inverse = np.nonzero(table == 0)
    assert x.tolist() == list(range(120))  # one right inverse each ...
    assert (table[inverse, x] == 0).all()  # ... which is the left inverse too


@pytest.mark.parametrize("name", ["xy in S5", "x+y", "x-y"])
def test_each_answer_stands_once_in_every_row_and_column(name):
    table = OPERATIONS[name].table
    everything = np.arange(len(table))
    assert (np.sort(table, axis=0) == everything[:, None]).all()
    assert (np.sort(table, axis=1) == everything).all()


def test_S5_has_the_right_number_of_elements_of_every_order():
    table = OPERATIONS["xy in S5"].table
    assert Counter(order_of(table, x) for x in range(120)) == {1: 1, 2: 25, 3: 20, 4: 30, 5: 24, 6: 20}


def test_as_many_pairs_commute_as_there_are_elements_times_conjugacy_classes():
    # In any group |{(x, y): xy = yx}| = |G| k(G), and S5 has 7 classes: the partitions of 5.
    product, conjugate = OPERATIONS["xy in S5"].table, OPERATIONS["xyx^-1 in S5"].table
    assert (product == product.T).sum() == 120 * 7
    assert (conjugate == np.arange(120)).sum() == 120 * 7  # xyx^-1 = y says the same


def test_conjugation_solves_its_defining_equation():
    product, conjugate = OPERATIONS["xy in S5"].table, OPERATIONS["xyx^-1 in S5"].table
    x = np.arange(120)[:, None]
    assert (product[conjugate, x] == product).all()  # (x y x^-1) x = x y


def test_conjugation_keeps_the_cycle_type_and_reaches_all_of_it():
    types = [cycle_type(a) for a in S5]
    for y, column in enumerate(OPERATIONS["xyx^-1 in S5"].table.T):
        assert set(column.tolist()) == {i for i in range(120) if types[i] == types[y]}


def test_the_sandwich_is_composition_done_twice():
    product, sandwich = OPERATIONS["xy in S5"].table, OPERATIONS["xyx in S5"].table
    for x in range(120):
        assert (sandwich[x] == product[product[x], x]).all()


def test_permutations_stand_in_lexicographic_order():
    # The order is part of every stored run: an element's index is its token.
    assert list(map(tuple, PERMUTATIONS.tolist())) == S5


def test_permutations_find_their_own_index():
    assert permutation_index(PERMUTATIONS).tolist() == list(range(120))
    assert permutation_index(np.array([[S5[7], S5[100]], [S5[0], S5[119]]])).tolist() == [[7, 100], [0, 119]]


def test_cycle_notation_reads_back_as_the_same_permutation():
    for permutation in S5:
        text = cycle_notation(permutation)
        image = list(range(5))
        for cycle in re.findall(r"\(([\d ]+)\)", text):
            points = [int(point) for point in cycle.split()]
            assert len(points) > 1  # fixed points are left out
            for here, there in zip(points, points[1:] + points[:1]):
                image[here] = there
        assert tuple(image) == permutation


def test_cycle_notation_looks_as_in_the_paper():
    assert cycle_notation((0, 1, 2, 3, 4)) == "()"
    assert cycle_notation((1, 0, 2, 4, 3)) == "(0 1)(3 4)"
    assert cycle_notation((3, 4, 2, 0, 1)) == "(0 3)(1 4)"  # from the subgroup of Figure 3
    assert cycle_notation((1, 2, 0, 4, 3)) == "(0 1 2)(3 4)"


def test_labels_name_the_modulus_of_field_operations_only():
    assert OPERATIONS["x/y"].label == "x/y (mod 97)"
    assert operation("x+y", 11).label == "x+y (mod 11)"
    assert OPERATIONS["xy in S5"].label == "xy in S5"


@pytest.mark.parametrize("name", DIVIDING)
@pytest.mark.parametrize("modulus", [4, 9, 49, 91])
def test_division_by_a_composite_modulus_is_refused(name, modulus):
    with pytest.raises(ValueError, match=f"modulus={modulus} is composite.* use a prime such as 97"):
        operation(name, modulus)


@pytest.mark.parametrize("modulus", [1, 0, -5, 1001, True, 11.5, "11", None])
def test_a_modulus_that_is_no_whole_number_in_range_is_refused(modulus):
    with pytest.raises(ValueError, match=re.escape(f"modulus={modulus!r}") + ".*from 2 to 1000"):
        operation("x+y", modulus)


def test_a_modulus_for_S5_is_refused():
    with pytest.raises(ValueError, match="modulus=11 has no meaning for 'xy in S5': leave it out"):
        operation("xy in S5", 11)


@pytest.mark.parametrize("wrong, near", [("x+z", "x+y"), ("xy in s5", "xy in S5"), ("x^2+y", "x^2+y^2"),
                                         ("x*y*x^-1 in S5", "xyx^-1 in S5"), ("x^3+xy^2", "x^3+xy^2+y")])
def test_a_misspelt_operation_is_refused_with_the_nearest_name(wrong, near):
    with pytest.raises(ValueError) as error:
        operation(wrong)
    assert f"operation={wrong!r}" in str(error.value)
    assert f"did you mean {near!r}?" in str(error.value)
    assert all(name in str(error.value) for name in NAMES)


def test_equations_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        operation("x+y", 13).equations[0, 0] = 1


def test_a_refused_modulus_is_refused_whatever_was_asked_before():
    operation("x+y", 97)
    with pytest.raises(ValueError, match="modulus=97.0"):
        operation("x+y", 97.0)
