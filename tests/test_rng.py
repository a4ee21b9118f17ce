"""Promises of `grok_lib.rng`: the same bits everywhere, and bits that behave as if they were drawn by chance.

The seeds below are fixed, so every statistical test is a fixed computation: it passes always or never. The bounds
leave four to five standard deviations.
"""

import itertools
import math
import zlib

import numpy as np
import pytest
import torch
from scipy import stats

from grok_lib import rng

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15

# Streams that could be mistaken for one another: neighbouring seeds, purposes and steps.
SEEDS, PURPOSES, STEPS = range(10), range(1, 8), range(10)


def splitmix(z):
    """SplitMix64's finaliser as published, on a Python integer of 64 bits."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def reference_bits(seed, purpose, step, index):
    """`bits(key(seed, purpose, step), index)` in unbounded integers, as 64 unsigned bits."""
    key = splitmix((seed + GOLDEN) & MASK)
    key = splitmix((key + 2 * purpose + 1) & MASK)
    key = splitmix((key + step * GOLDEN) & MASK)
    return splitmix((key + index * GOLDEN) & MASK)


def streams(seeds, purpose, steps):
    """Keys (len(seeds), len(steps), 1)."""
    seeds, steps = np.array(seeds, np.int64), np.array(steps, np.int64)
    return rng.key(seeds[:, None, None], purpose, steps[None, :, None])


def test_the_published_first_outputs_of_splitmix64_come_out():
    # The published generator adds the golden ratio to its state before each output: its n-th is index n of key 0.
    out = rng.bits(np.array([0]), np.arange(1, 4)).view(np.uint64)
    assert out.tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_bits_equal_a_reference_in_unbounded_integers():
    # Both ends of every range are here: the products wrap many times over.
    for seed, purpose, step in itertools.product([0, 1, 97, 2**63 - 1], [1, 7], [0, 1, 10**6, 2**40]):
        index = np.array([0, 1, 2, 14399, 2**31, 2**40])
        out = rng.bits(rng.numpy_key(seed, purpose, step), index).view(np.uint64)
        assert out.tolist() == [reference_bits(seed, purpose, step, int(i)) for i in index]


def test_frozen_streams_have_not_moved():
    # Literals, FROZEN: every shipped run's data, start, order and noise hang on them, and on these numbers of purposes.
    assert (rng.SPLIT, rng.OUTLIERS, rng.ORDER, rng.INIT) == (1, 2, 3, 4)
    assert (rng.UPDATE_NOISE, rng.WEIGHT_NOISE, rng.DROPOUT) == (5, 6, 7)
    assert rng.numpy_key(0, rng.SPLIT, 4704).tolist() == [-1847823890830716874]
    assert rng.numpy_key(7, rng.ORDER, 3).tolist() == [8447587331211115568]
    assert rng.order(rng.numpy_key(7, rng.ORDER, 3), 10).tolist() == [6, 3, 1, 7, 2, 5, 4, 0, 9, 8]
    expected = [-1.3994568069643396, 1.1403833916982777, 2.4610693712028624, 0.3167127129058942]
    np.testing.assert_allclose(rng.normal(rng.numpy_key(7, rng.INIT, 0), 4), expected, rtol=1e-14)


def test_a_key_for_python_integers_is_the_key_for_arrays():
    keys = rng.key(np.array([5, 2**63 - 1]), rng.INIT, np.array([12, 12]))
    assert keys.tolist() == [*rng.numpy_key(5, rng.INIT, 12), *rng.numpy_key(2**63 - 1, rng.INIT, 12)]


@pytest.mark.parametrize("device", DEVICES)
def test_keys_and_bits_are_equal_in_numpy_and_torch(device):
    seeds, steps = np.array([0, 1, 5, 2**63 - 1])[:, None, None], np.array([0, 1, 10**6, 2**40])[:, None]
    index = np.concatenate([np.arange(1000), [2**31, 2**40, 2**62]])
    on = lambda a: torch.as_tensor(a, device=device)
    for purpose in PURPOSES:
        ours, theirs = rng.key(seeds, purpose, steps), rng.key(on(seeds), purpose, on(steps))
        assert theirs.dtype == torch.int64
        assert (ours == theirs.cpu().numpy()).all()
        assert (rng.bits(ours, index) == rng.bits(theirs, on(index)).cpu().numpy()).all()


@pytest.mark.parametrize("device", DEVICES)
def test_uniforms_are_equal_to_the_bit_in_numpy_and_torch(device):
    z = rng.bits(streams([0, 1], rng.DROPOUT, [0, 1]), np.arange(10_000))
    ours, theirs = rng.uniform(z), rng.uniform(torch.as_tensor(z, device=device)).cpu().numpy()
    assert ours.dtype == theirs.dtype == np.float64
    assert (ours == theirs).all()


@pytest.mark.parametrize("device", DEVICES)
def test_normals_in_numpy_and_torch_differ_in_their_last_bits_at_most(device):
    keys = streams([0, 1], rng.UPDATE_NOISE, [1, 2])
    ours, theirs = rng.normal(keys, 50_001), rng.normal(torch.as_tensor(keys, device=device), 50_001).cpu().numpy()
    assert ours.shape == theirs.shape == (2, 2, 50_001)
    assert ours.dtype == theirs.dtype == np.float64
    np.testing.assert_allclose(theirs, ours, rtol=2e-15, atol=0)  # nine units in the last place


def test_a_uniform_is_the_top_53_bits_and_never_reaches_one():
    z = [0, 1, 2047, 2048, 2**63 - 1, -(2**63), -1, -2048, 123456789123456789]
    out = rng.uniform(np.array(z)).tolist()
    assert out == [((v & MASK) >> 11) / 2**53 for v in z]
    assert min(out) == 0.0
    assert max(out) == 1 - 2**-53


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_normals_are_box_muller_on_the_two_halves_of_each_hash(count):
    half = (count + 1) // 2
    cosines, sines = [], []
    for index in range(half):
        z = reference_bits(3, 6, 11, index)
        radius = math.sqrt(-2 * math.log(((z >> 32) + 0.5) / 2**32))
        angle = 2 * math.pi * (z % 2**32) / 2**32
        cosines.append(radius * math.cos(angle))
        sines.append(radius * math.sin(angle))
    out = rng.normal(rng.numpy_key(3, 6, 11), count)
    np.testing.assert_allclose(out, (cosines + sines)[:count], rtol=1e-13)


def test_uniforms_are_uniform():
    for seed, purpose, step in [(0, 1, 0), (1, 3, 999), (2**62, 7, 10**6)]:
        u = rng.uniform(rng.bits(rng.numpy_key(seed, purpose, step), np.arange(200_000)))
        assert stats.kstest(u, "uniform").pvalue > 1e-3
        pairs = np.histogram2d(u[:-1], u[1:], bins=16, range=[[0, 1], [0, 1]])[0]  # each beside the next
        assert 1e-3 < stats.chisquare(pairs.ravel()).pvalue < 1 - 1e-3  # too even would be no chance either


def test_each_of_the_eight_bytes_of_a_hash_is_uniform():
    out = rng.bits(streams([0, 3], rng.SPLIT, [0, 5]), np.arange(2**15))
    for byte in out.reshape(-1).view(np.uint8).reshape(-1, 8).T:
        assert 1e-4 < stats.chisquare(np.bincount(byte, minlength=256)).pvalue < 1 - 1e-4


def test_normals_are_normal():
    n = 400_000
    x = rng.normal(rng.numpy_key(0, rng.INIT, 0), n)
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert abs(x.mean()) < 4 / math.sqrt(n)
    assert abs(x.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs(stats.skew(x)) < 4 * math.sqrt(6 / n)
    assert abs(stats.kurtosis(x)) < 4 * math.sqrt(24 / n)


def test_normals_have_tails_as_heavy_as_they_should_be():
    x = rng.normal(streams(range(10), rng.UPDATE_NOISE, [1]), 100_000)
    for bound in (2, 3, 4):
        for tail in ((x > bound).sum(), (x < -bound).sum()):
            expected = x.size * stats.norm.sf(bound)
            assert abs(tail - expected) < 4.5 * math.sqrt(expected)
    assert np.isfinite(x).all()


def test_no_two_streams_share_a_number():
    # Streams that were shifted copies of one another (a key that is a plain sum, say) would meet again and again;
    # 63,000 numbers drawn by chance out of 2^64 would not meet once.
    seen = np.concatenate([rng.bits(streams(SEEDS, purpose, STEPS), np.arange(90)).ravel() for purpose in PURPOSES])
    assert len(np.unique(seen)) == len(seen) == 63_000


@pytest.mark.parametrize("differ_in", ["seed", "step", "purpose"])
def test_rows_that_differ_in_one_thing_are_uncorrelated(differ_in):
    n, rows = 4096, 64
    if differ_in == "seed":
        x = rng.normal(streams(range(rows), rng.INIT, [0])[:, 0], n)
    elif differ_in == "step":
        x = rng.normal(streams([0], rng.UPDATE_NOISE, range(rows))[0], n)
    else:
        x = np.concatenate([rng.normal(rng.numpy_key(0, purpose, 0)[None], n) for purpose in range(1, rows + 1)])
    r = np.corrcoef(x)[np.triu_indices(rows, 1)] * math.sqrt(n)  # about N(0, 1) each
    assert abs(r).max() < 5
    assert abs((r**2).mean() - 1) < 4 * math.sqrt(2 / len(r))  # together they are as large as chance has them


def test_neighbouring_numbers_of_a_stream_are_uncorrelated():
    x = rng.normal(streams(range(8), rng.WEIGHT_NOISE, [1, 2]), 20_000).reshape(16, -1)
    for lag in (1, 2, 3, 4, 16, 128, 512, 10_000):  # 10,000 is half a row: the cosine against its own sine
        r = (x[:, lag:] * x[:, :-lag]).mean(1) * math.sqrt(x.shape[1] - lag)
        assert abs(r).max() < 5
        assert abs(r.mean()) < 4 / math.sqrt(16)


@pytest.mark.parametrize("where", ["seed", "step", "index"])
def test_one_flipped_input_bit_flips_about_half_of_the_output_bits(where):
    n = 1000
    base = np.random.default_rng(0).integers(0, 2**62, n)
    for b in range(63):  # seeds are 63 bits
        other = base ^ (1 << b)
        if where == "index":
            key = rng.numpy_key(0, rng.ORDER, 0)
            flipped = rng.bits(key, base) ^ rng.bits(key, other)
        elif where == "seed":
            flipped = rng.key(base, rng.ORDER, 0 * base) ^ rng.key(other, rng.ORDER, 0 * base)
        else:
            flipped = rng.key(0 * base, rng.ORDER, base) ^ rng.key(0 * base, rng.ORDER, other)
        counts = np.bitwise_count(flipped.view(np.uint64))  # about Binomial(64, 1/2): mean 32, variance 16
        assert abs(counts.mean() - 32) < 5 * 4 / math.sqrt(n)
        each = np.unpackbits(flipped.view(np.uint8)).reshape(n, 64).mean(0)
        assert abs(each - 0.5).max() < 5.5 * 0.5 / math.sqrt(n)  # and every output bit answers to this input bit


def test_an_order_is_a_permutation_for_every_key():
    orders = rng.order(streams(range(5), rng.ORDER, range(4)), 997)
    assert orders.shape == (5, 4, 997)
    assert (np.sort(orders, -1) == np.arange(997)).all()


def test_an_order_is_what_plain_sorting_by_the_hashes_gives():
    signed = lambda z: z - 2**64 * (z >> 63)
    for seed, step in [(0, 0), (1, 50), (2**40, 7)]:
        expected = sorted(range(300), key=lambda i: signed(reference_bits(seed, 3, step, i)))
        assert rng.order(rng.numpy_key(seed, rng.ORDER, step), 300).tolist() == expected


def test_equal_hashes_keep_their_places_in_an_order(monkeypatch):
    # So that numpy and torch agree even then. No 64-bit hashes collide here by chance: these have two bits.
    monkeypatch.setattr(rng, "bits", lambda keys, index: index % 4)
    assert rng.order(np.array([0]), 400).tolist() == sorted(range(400), key=lambda i: i % 4)


def test_every_element_is_equally_likely_at_every_place_of_an_order():
    n, draws = 20, 20_000
    orders = rng.order(streams([0], rng.ORDER, range(draws))[0], n)
    observed = np.array([np.bincount(place, minlength=n) for place in orders.T])
    statistic = (n - 1) / n * ((observed - draws / n) ** 2 / (draws / n)).sum()  # rows and columns add up to `draws`
    assert 1e-3 < stats.chi2((n - 1) ** 2).sf(statistic) < 1 - 1e-3


def test_all_orders_of_four_are_equally_likely():
    orders = rng.order(streams(range(24_000), rng.SPLIT, [4])[:, 0], 4)
    _, counts = np.unique(orders @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24
    assert 1e-3 < stats.chisquare(counts).pvalue < 1 - 1e-3


def test_a_name_always_has_the_same_code():
    assert rng.name_code("123456789") == 0xCBF43926  # CRC-32's published check value
    assert rng.name_code("0.query") == zlib.crc32(b"0.query")
