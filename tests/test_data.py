"""Promises of `grok_lib.data`: fair splits, a batch stream that equals the obvious loop, outliers of the right kind."""

import math
import types

import numpy as np
import pytest
import torch
from scipy import stats

from grok_lib import data, rng
from grok_lib.operations import OPERATIONS, operation
from grok_lib.specs import RunSpec

TINY = RunSpec(modulus=11, train_fraction=0.5)  # 121 equations, 60 of them to train on, batches of 30

# A stack of runs that differ in all that a stack may mix: equations, training-set sizes, batch sizes, seeds.
MIXED = [
    TINY.but(seed=1, train_fraction=0.3),  # 36 equations, B = 18: two batches an epoch
    TINY.but(seed=2, operation="x/y", train_fraction=0.7),  # 77 of 110, B = 39: the second spans two epochs
    TINY.but(seed=3, train_fraction=0.6, batch_size=7),  # 73, B = 7 does not divide it
    TINY.but(seed=4, operation="x-y", batch_size=60),  # 60, B = 60: an epoch a batch
]


def train_set(spec):
    """The training equations, in the order that the stream refers to."""
    return data.split(spec)[0]


def naive_batches(spec, updates):
    """The batches of updates 1..`updates`: epochs laid end to end, then cut. (updates, B)"""
    train, stream, epoch = train_set(spec), [], 0
    while len(stream) < updates * spec.batch:
        order = rng.order(rng.numpy_key(spec.seed_for("order"), rng.ORDER, epoch), len(train))
        stream += [int(train[i]) for i in order]
        epoch += 1
    return [stream[u * spec.batch:(u + 1) * spec.batch] for u in range(updates)]


def own_batches(specs, first, count, row=0):
    """What the stream gives one run of a stack, its padding cut off: a list of `count` batches."""
    chosen = data.batch_stream(data.load(specs, "cpu"), first, count)
    return chosen[row, :, :specs[row].batch].tolist()


def without_equations_in_common(operation_, monkeypatch):
    """Make every equation's answer its own number, so that a wrong answer tells where it came from."""
    equations = operation_.equations.copy()
    equations[:, 2] = np.arange(len(equations))
    monkeypatch.setattr(data, "operation", lambda name, modulus: types.SimpleNamespace(equations=equations))


# --- The split


@pytest.mark.parametrize("spec", [TINY, RunSpec(), RunSpec(operation="x/y", train_fraction=0.25),
                                  RunSpec(operation="xy in S5", train_fraction=0.9, seed=5)])
def test_a_split_parts_all_equations_into_two(spec):
    train, val = data.split(spec)
    assert len(train) == round(spec.train_fraction * spec.equations)
    assert sorted([*train, *val]) == list(range(spec.equations))


def test_frozen_splits_have_not_moved():
    # FROZEN literals: every shipped run's data hangs on them.
    train, val = data.split(RunSpec())
    assert train[:6].tolist() == [5103, 4555, 4333, 4933, 7830, 88]
    assert val[:6].tolist() == [771, 3145, 4312, 1627, 6113, 7705]
    train = train_set(RunSpec(operation="xy in S5", train_fraction=0.3, seed=7))
    assert train[:6].tolist() == [5909, 13440, 2209, 3157, 773, 12285]


def test_the_same_seed_gives_the_same_split_whatever_else_differs():
    train = train_set(TINY).tolist()
    for other in (TINY.but(weight_decay=0), TINY.but(width=64), TINY.but(batch_size=3), TINY.but(outliers=5),
                  TINY.but(init_seed=9), TINY.but(order_seed=9), TINY.but(noise_seed=9), TINY.but(steps=5)):
        assert train_set(other).tolist() == train


def test_the_split_seed_overrides_the_seed():
    assert train_set(TINY.but(seed=8, split_seed=3)).tolist() == train_set(TINY.but(seed=3)).tolist()
    assert train_set(TINY.but(seed=8, split_seed=0)).tolist() == train_set(TINY.but(seed=0)).tolist()
    assert train_set(TINY.but(seed=8)).tolist() != train_set(TINY.but(seed=3)).tolist()


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.8])
def test_training_sets_of_two_seeds_overlap_as_independent_draws_do(fraction):
    # Two draws of n out of N share a hypergeometric number, f^2 N in the mean.
    # (The authors' code has one order for all seeds.)
    specs = [RunSpec(train_fraction=fraction, seed=seed) for seed in range(21)]
    n, N = specs[0].train_size, specs[0].equations
    sets = [set(train_set(spec).tolist()) for spec in specs]
    shared = stats.hypergeom(N, n, n)
    z = np.array([(len(a & b) - shared.mean()) / shared.std() for a, b in zip(sets, sets[1:])])
    assert abs(z).max() < 4
    assert abs(z.mean()) < 4 / math.sqrt(len(z))


def test_training_sets_of_one_seed_at_two_fractions_are_not_nested():
    less, more = (RunSpec(operation="xy in S5", train_fraction=fraction) for fraction in (0.3, 0.5))
    shared = stats.hypergeom(less.equations, less.train_size, more.train_size)
    overlap = len(set(train_set(less).tolist()) & set(train_set(more).tolist()))
    assert abs(overlap - shared.mean()) < 4 * shared.std()  # about half of the smaller set, not all of it


def test_every_equation_is_as_likely_as_any_other_to_be_trained_on():
    draws, n, N = 1000, TINY.train_size, TINY.equations
    counts = sum(np.bincount(train_set(TINY.but(seed=seed)), minlength=N) for seed in range(draws))
    f = n / N
    statistic = ((counts - draws * f) ** 2).sum() / (draws * f * (1 - f)) * (N - 1) / N  # the counts add up to n draws
    assert 1e-3 < stats.chi2(N - 1).sf(statistic) < 1 - 1e-3


# --- Outliers


def test_without_outliers_every_answer_is_right():
    for spec in MIXED:
        assert data.answers(spec).tolist() == operation(spec.operation, spec.modulus).equations[:, 2].tolist()


def moved_answers(spec):
    """The equations that have another's answer, and those others, where each equation's own answer is its number."""
    came_from = data.answers(spec)
    targets = np.flatnonzero(came_from != np.arange(spec.equations))
    moved = set(targets.tolist()), set(came_from[targets].tolist())
    assert moved[0] | moved[1] <= set(train_set(spec).tolist())  # validation is untouched
    return moved


@pytest.mark.parametrize("k", [1, 10, 30])
def test_k_training_equations_get_the_answers_of_k_others(k, monkeypatch):
    without_equations_in_common(operation("x+y", 11), monkeypatch)
    targets, sources = moved_answers(TINY.but(outliers=k))
    assert len(targets) == len(sources) == k
    assert not sources & targets  # other equations, while there are enough


@pytest.mark.parametrize("k", [31, 45, 59, 60])
def test_more_outliers_than_half_the_training_set_still_never_get_their_own_answer(k, monkeypatch):
    without_equations_in_common(operation("x+y", 11), monkeypatch)
    targets, sources = moved_answers(TINY.but(outliers=k))
    assert len(targets) == len(sources) == k


def test_validation_answers_stay_right_however_many_outliers_there_are():
    for k in (0, 1, 100, 3000, 4704):
        spec = RunSpec(outliers=k)
        val = data.split(spec)[1]
        assert (data.answers(spec)[val] == OPERATIONS["x+y"].equations[val, 2]).all()


def test_all_equations_as_outliers_shuffle_the_answers_among_themselves():
    spec = RunSpec(outliers=4704)
    train = train_set(spec)
    wrong, right = data.answers(spec)[train], OPERATIONS["x+y"].equations[train, 2]
    assert sorted(wrong) == sorted(right)
    assert (wrong == right).mean() < 0.02  # by chance 1 of 97 agrees


def test_an_outliers_answer_is_right_by_chance_once_in_97():
    k, seeds = 1000, range(20)
    right = OPERATIONS["x+y"].equations[:, 2]
    changed = sum((data.answers(RunSpec(outliers=k, seed=seed)) != right).sum() for seed in seeds)
    expected = stats.binom(k * len(seeds), 1 - 1 / 97)
    assert abs(changed - expected.mean()) < 4 * expected.std()


def test_which_equations_become_outliers_is_a_matter_of_the_split_seed_alone(monkeypatch):
    without_equations_in_common(OPERATIONS["x+y"], monkeypatch)
    targets = lambda spec: set(np.flatnonzero(data.answers(spec) != np.arange(9409)).tolist())
    spec = RunSpec(outliers=1000, train_fraction=0.9)
    assert targets(spec.but(weight_decay=0, order_seed=4, init_seed=4, noise_seed=4)) == targets(spec)
    assert targets(spec.but(seed=4, split_seed=0)) == targets(spec)
    assert targets(spec.but(seed=4)) != targets(spec)


def test_outliers_are_spread_over_the_training_set_anew_for_every_seed(monkeypatch):
    without_equations_in_common(OPERATIONS["x+y"], monkeypatch)
    places, k, n = [], 1000, RunSpec().train_size
    for seed in range(8):
        spec = RunSpec(outliers=k, seed=seed)
        wrong = data.answers(spec) != np.arange(9409)
        places.append(np.flatnonzero(wrong[train_set(spec)]))  # in the order of the split, of which they know nothing
        assert stats.kstest(places[-1] / n, "uniform").pvalue > 1e-3
    shared = stats.hypergeom(n, k, k)
    for a, b in zip(places, places[1:]):
        assert abs(len(np.intersect1d(a, b)) - shared.mean()) < 4 * shared.std()


def test_frozen_outliers_have_not_moved():
    # FROZEN literals, as for the split.
    wrong = np.flatnonzero(data.answers(RunSpec(outliers=10, seed=7)) != OPERATIONS["x+y"].equations[:, 2])
    assert wrong.tolist() == [1576, 2809, 3335, 3417, 4895, 6446, 7062, 7110, 7164, 9268]
    assert data.answers(RunSpec(outliers=10, seed=7))[wrong].tolist() == [16, 67, 95, 34, 16, 47, 4, 42, 86, 4]


# --- The loaded stack


def test_a_loaded_stack_holds_each_runs_equations_and_pads_the_rest():
    loaded = data.load(MIXED, "cpu")
    assert loaded.x.shape == loaded.is_val.shape == (4, 121)
    for r, spec in enumerate(MIXED):
        equations, N = operation(spec.operation, spec.modulus).equations, spec.equations
        assert loaded.x[r, :N].tolist() == equations[:, 0].tolist()
        assert loaded.y[r, :N].tolist() == equations[:, 1].tolist()
        assert loaded.answer[r, :N].tolist() == equations[:, 2].tolist()
        train, val = data.split(spec)
        assert loaded.is_train[r].nonzero().flatten().tolist() == sorted(train.tolist())
        assert loaded.is_val[r].nonzero().flatten().tolist() == sorted(val.tolist())
        assert not loaded.is_train[r, N:].any()  # padding is in neither set
        assert not loaded.is_val[r, N:].any()
        assert 0 <= loaded.x[r].min() <= loaded.answer[r].max() < 11  # and yet made of tokens that exist
    assert loaded.sizes.tolist() == [36, 77, 73, 60]
    assert loaded.batches.tolist() == [18, 39, 7, 60]


def test_a_loaded_stack_holds_the_outliers():
    loaded = data.load([TINY, TINY.but(outliers=60)], "cpu")
    assert (loaded.answer[0].numpy() == data.answers(TINY)).all()
    assert (loaded.answer[1].numpy() == data.answers(TINY.but(outliers=60))).all()
    assert (loaded.answer[0] != loaded.answer[1]).any()


# --- The stream of batches


@pytest.mark.parametrize("spec", [
    *MIXED,
    TINY,  # 60, B = 30
    TINY.but(batch_size=1),
    TINY.but(batch_size=59),  # nearly every batch spans two epochs
    TINY.but(train_fraction=0.01),  # a single training equation
    RunSpec(seed=6, train_fraction=0.12),  # 1129 of 9409, B = 512
], ids=lambda spec: f"n={spec.train_size},B={spec.batch}")
def test_the_stream_is_epochs_laid_end_to_end_and_cut(spec):
    assert own_batches([spec], 1, 50) == naive_batches(spec, 50)


def test_small_training_sets_are_not_ordered_as_long_as_large_ones_nor_large_ones_as_often_as_small(monkeypatch):
    keys, real = [], data.rng.bits
    monkeypatch.setattr(data.rng, "bits", lambda key, index: (
        keys.append(np.prod(np.broadcast_shapes(key.shape, index.shape))) or real(key, index)))

    def ordered(specs):
        loaded = data.load(specs, "cpu")
        keys.clear()
        data.batch_stream(loaded, 1, 64)
        return sum(keys)
    specs = [RunSpec(train_fraction=f) for f in (0.12, 0.5, 0.95)]  # batches of 512 each
    assert ordered(specs) == sum(ordered([spec]) for spec in specs)


def test_the_stream_is_the_same_in_one_call_and_in_many():
    loaded = data.load(MIXED, "cpu")
    whole = data.batch_stream(loaded, 1, 60)
    pieces = [data.batch_stream(loaded, 1, 1), data.batch_stream(loaded, 2, 16), data.batch_stream(loaded, 18, 43)]
    assert whole.shape == (4, 60, 60)
    assert whole.dtype == torch.int64
    assert (torch.cat(pieces, 1) == whole).all()


def test_a_run_gets_the_same_batches_in_any_stack():
    for row, spec in enumerate(MIXED):
        assert own_batches(MIXED, 1, 40, row) == naive_batches(spec, 40)
    for row, spec in enumerate(MIXED[::-1]):
        assert own_batches(MIXED[::-1], 1, 40, row) == naive_batches(spec, 40)


def test_the_stream_can_be_entered_a_million_updates_in():
    spec, first = MIXED[1], 1_000_001
    train, n, B = train_set(spec), spec.train_size, spec.batch
    for u, batch in enumerate(own_batches(MIXED, first, 5, row=1)):
        for place, equation in enumerate(batch, start=(first - 1 + u) * B):
            order = rng.order(rng.numpy_key(spec.seed, rng.ORDER, place // n), n)
            assert equation == train[order[place % n]]


@pytest.mark.parametrize("row", range(4))
def test_an_epoch_shows_every_training_equation_once(row):
    n, B = MIXED[row].train_size, MIXED[row].batch
    stream = sum(own_batches(MIXED, 1, 120, row), [])
    epochs = [stream[at:at + n] for at in range(0, len(stream) - n + 1, n)]
    assert len(epochs) == 120 * B // n >= 11
    assert all(sorted(epoch) == sorted(train_set(MIXED[row]).tolist()) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)  # in a fresh order each time


def test_the_order_seed_overrides_the_seed_and_moves_the_order_alone():
    first, other = TINY.but(seed=1), TINY.but(seed=1, order_seed=2)
    assert train_set(first).tolist() == train_set(other).tolist()
    assert own_batches([first], 1, 2) != own_batches([other], 1, 2)
    assert own_batches([other], 1, 9) == own_batches([TINY.but(seed=2, split_seed=1)], 1, 9)
    assert own_batches([TINY.but(seed=1, init_seed=5, noise_seed=5)], 1, 9) == own_batches([first], 1, 9)


def test_the_frozen_stream_has_not_moved():
    # FROZEN literals, as for the split: the beginning of update 1, and of update 11, in the second epoch.
    chosen = data.batch_stream(data.load([RunSpec()], "cpu"), 1, 11)
    assert chosen[0, 0, :6].tolist() == [7005, 2801, 3985, 8269, 7796, 6147]
    assert chosen[0, 10, :6].tolist() == [6922, 6948, 9227, 2834, 3185, 6866]


def test_equal_hashes_cannot_bring_padding_into_a_batch(monkeypatch):
    # The greatest hash there is also marks the padding. By chance that is one in 2^64: here every hash is that one,
    # and a stable order leaves each epoch as it was.
    loaded = data.load(MIXED, "cpu")
    monkeypatch.setattr(rng, "bits", lambda keys, index: torch.full_like(keys + index, data.LAST))
    chosen = data.batch_stream(loaded, 1, 30)
    for row, spec in enumerate(MIXED):
        expected = np.resize(loaded.train[row, :spec.train_size], 30 * spec.batch)  # over and over
        assert chosen[row, :, :spec.batch].flatten().tolist() == expected.tolist()


def test_full_batches_are_the_whole_training_set_every_time():
    for spec in (TINY.but(full_batch=True), RunSpec(operation="x/y", full_batch=True, train_fraction=0.2)):
        chosen = data.batch_stream(data.load([spec], "cpu"), 5, 3)
        assert chosen.shape == (1, 3, spec.train_size)
        for batch in chosen[0].tolist():
            assert batch == sorted(train_set(spec).tolist())  # in the table's order


def test_full_batches_of_a_mixed_stack_are_padded_to_the_largest():
    specs = [TINY.but(full_batch=True, train_fraction=0.3), TINY.but(full_batch=True, train_fraction=0.7, seed=1)]
    loaded = data.load(specs, "cpu")
    chosen, weights = data.batch_stream(loaded, 1, 2), data.batch_weights(loaded, torch.float64)
    assert chosen.shape == (2, 2, 85)
    for row, spec in enumerate(specs):
        weighed = chosen[row, 0][weights[row] > 0].tolist()
        assert sorted(weighed) == sorted(train_set(spec).tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_weights_make_a_mean_over_each_runs_own_batch(dtype):
    weights = data.batch_weights(data.load(MIXED, "cpu"), dtype)
    assert weights.dtype == dtype
    assert weights.shape == (4, 60)
    torch.testing.assert_close(weights.sum(1), torch.ones(4, dtype=dtype))
    for row, spec in enumerate(MIXED):
        assert (weights[row, :spec.batch] == weights[row, 0]).all()
        assert (weights[row, spec.batch:] == 0).all()
    loss = torch.rand(4, 60, dtype=dtype, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([loss[row, :spec.batch].mean() for row, spec in enumerate(MIXED)])
    torch.testing.assert_close((loss * weights).sum(1), expected)


# --- Runs that leave


@pytest.mark.parametrize("keep", [[0, 1, 2, 3], [2, 0], [1], [0, 2]])
def test_the_runs_that_stay_go_on_with_their_own_data(keep):
    loaded = data.load(MIXED, "cpu")
    stayed = loaded.rows(torch.tensor(keep))
    B = max(MIXED[r].batch for r in keep)  # the padding shrinks with the largest batch
    chosen = data.batch_stream(stayed, 8, 20)
    assert chosen.shape == (len(keep), 20, B)
    assert data.batch_weights(stayed, torch.float32).shape == (len(keep), B)
    for row, r in enumerate(keep):
        assert chosen[row, :, :MIXED[r].batch].tolist() == naive_batches(MIXED[r], 27)[7:]
        for name in ("x", "y", "answer", "is_train", "is_val"):
            assert (getattr(stayed, name)[row] == getattr(loaded, name)[r]).all()
    assert loaded.x.shape == (4, 121)  # the stack they left is as it was


def test_full_batches_shrink_when_the_largest_run_leaves():
    specs = [TINY.but(full_batch=True, train_fraction=0.3), TINY.but(full_batch=True, train_fraction=0.7)]
    stayed = data.load(specs, "cpu").rows(torch.tensor([0]))
    chosen, weights = data.batch_stream(stayed, 1, 2), data.batch_weights(stayed, torch.float32)
    assert weights.shape == (1, 36)
    assert chosen.shape == (1, 2, 36)
    assert sorted(chosen[0, 0].tolist()) == sorted(train_set(specs[0]).tolist())


def test_changing_the_answers_in_hand_leaves_the_operation_alone():
    spec = RunSpec(modulus=7)
    try:
        data.answers(spec)[0] = 6
    except ValueError:
        pass  # read-only is as good as a copy
    assert operation("x+y", 7).equations[0].tolist() == [0, 0, 0]
