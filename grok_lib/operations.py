"""The paper's binary operations as tables (Power et al., appendix A.1.1; `x*y` only in the text of section 3.2).

`OPERATIONS[name].table[x, y]` is the element x ∘ y, or -1 where the operation is undefined (division by 0).
The network never sees what the elements *are*: only their indices 0..n-1, as abstract symbols.
"""

import dataclasses
import difflib
import functools
import itertools

import numpy as np

PRIME = 97  # the modulus of the paper's field operations


def inverse(y, p):
    """The inverse of each y modulo the prime p, elementwise; 0 for y = 0 (Fermat: y^(p-2))."""
    return np.array([pow(int(v), p - 2, p) if v else 0 for v in y.ravel()]).reshape(y.shape)


def divide(x, y, p):
    """x * y^-1 mod p; -1 where y = 0."""
    return np.where(y == 0, -1, x * inverse(y, p) % p)


# Each takes index arrays x (p, 1) and y (1, p) and the modulus p.
FIELD = {
    "x+y": lambda x, y, p: (x + y) % p,
    "x-y": lambda x, y, p: (x - y) % p,
    "x*y": lambda x, y, p: x * y % p,
    "x/y": divide,
    "x/y if y odd else x-y": lambda x, y, p: np.where(y % 2 == 1, divide(x, y, p), (x - y) % p),
    "x^2+y^2": lambda x, y, p: (x**2 + y**2) % p,
    "x^2+xy+y^2": lambda x, y, p: (x**2 + x * y + y**2) % p,
    "x^2+xy+y^2+x": lambda x, y, p: (x**2 + x * y + y**2 + x) % p,
    "x^3+xy": lambda x, y, p: (x**3 + x * y) % p,
    "x^3+xy^2+y": lambda x, y, p: (x**3 + x * y**2 + y) % p,
}
DIVIDING = ("x/y", "x/y if y odd else x-y")  # these need a prime modulus

# All 120 permutations of 0..4 in lexicographic order, one-line notation: row a is the map i -> a[i].
PERMUTATIONS = np.array(list(itertools.permutations(range(5))))
PERMUTATIONS.setflags(write=False)


def compose(a, b):
    """First a, then b (the authors' code): c[i] = b[a[i]]. Arrays (..., 5) that broadcast."""
    a, b = np.broadcast_arrays(a, b)
    return np.take_along_axis(b, a, -1)


# Each takes permutations x (120, 1, 5) and y (1, 120, 5); argsort inverts a permutation.
GROUP = {
    "xy in S5": lambda x, y: compose(x, y),
    "xyx^-1 in S5": lambda x, y: compose(compose(x, y), np.argsort(x, -1)),
    "xyx in S5": lambda x, y: compose(compose(x, y), x),
}


def permutation_index(permutations):
    """The index in `PERMUTATIONS` of each permutation: (..., 5) gives (...)."""
    base = 5 ** np.arange(4, -1, -1)  # read as base-5 numbers, lexicographic order is numeric order
    return np.searchsorted(PERMUTATIONS @ base, permutations @ base)


def cycle_notation(permutation):
    """Cycles of one permutation, fixed points left out: (1, 0, 2, 4, 3) gives '(0 1)(3 4)'; identity '()'."""
    left, text = set(range(len(permutation))), ""
    while left:
        cycle = [min(left)]
        while permutation[cycle[-1]] != cycle[0]:
            cycle.append(int(permutation[cycle[-1]]))
        left -= set(cycle)
        text += f"({' '.join(map(str, cycle))})" if len(cycle) > 1 else ""
    return text or "()"


@dataclasses.dataclass(frozen=True)
class Operation:
    """One binary operation on a set of `size` elements. Make it with `operation(name, modulus)`."""

    name: str
    modulus: int | None  # None for the operations on S5

    @functools.cached_property
    def table(self):
        """int64 (n, n): x in the rows, y in the columns; -1 where undefined. Read-only."""
        if self.modulus is None:
            x, y = PERMUTATIONS[:, None], PERMUTATIONS[None, :]
            table = permutation_index(GROUP[self.name](x, y))
        else:
            x = np.arange(self.modulus, dtype=np.int64)
            table = FIELD[self.name](x[:, None], x[None, :], self.modulus)
        return _read_only(np.ascontiguousarray(table, np.int64))

    @property
    def size(self):
        """n, the number of elements: the modulus, or 120."""
        return 120 if self.modulus is None else self.modulus

    @functools.cached_property
    def equations(self):
        """int64 (N, 3): x, y and x ∘ y of every defined equation, row by row of the table. Read-only."""
        x, y = np.nonzero(self.table >= 0)
        return _read_only(np.stack([x, y, self.table[x, y]], 1))

    @property
    def symmetric_share(self):
        """The share of its equations with x ∘ y = y ∘ x, the diagonal left out (there it always holds)."""
        x, y, answer = self.equations.T
        off = x != y
        return float((self.table[y, x] == answer)[off].mean())

    @property
    def label(self):
        """For axes and titles: 'x/y (mod 97)', 'xy in S5'."""
        return self.name if self.modulus is None else f"{self.name} (mod {self.modulus})"


def _read_only(array):
    array.setflags(write=False)  # it is shared by all who ask for this operation
    return array


@functools.lru_cache(maxsize=None, typed=True)
def operation(name, modulus=PRIME):
    """The operation of that name. The modulus matters for the field operations only.

    Raises ValueError for an unknown name, and for a modulus that the operation cannot have.
    """
    if name in GROUP:
        if modulus != PRIME:
            raise ValueError(f"modulus={modulus!r} has no meaning for {name!r}: leave it out")
        return Operation(name, None)
    if name not in FIELD:
        near = difflib.get_close_matches(str(name), OPERATIONS, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"operation={name!r} is not known: {hint}choose from {', '.join(OPERATIONS)}")
    if not isinstance(modulus, int) or not 2 <= modulus <= 1000:
        raise ValueError(f"modulus={modulus!r} is out of range: use a whole number from 2 to 1000")
    if name in DIVIDING and any(modulus % d == 0 for d in range(2, int(modulus**0.5) + 1)):
        raise ValueError(f"modulus={modulus!r} is composite, so {name!r} cannot divide: use a prime such as 97")
    return Operation(name, modulus)


OPERATIONS = {name: operation(name, PRIME) for name in (*FIELD, *GROUP)}
