"""Randomness as a pure function: the same bits in numpy and torch, on CPU and CUDA, in every version.

A random number here is not drawn from a generator that remembers what came before; it is *looked up*:

    bits(key(seed, purpose, step), index)

so a run's data, order, start and noise depend on nothing but its own seed: not on the runs beside it, the device, or
what was evaluated in between. The hash is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a counter times the golden
ratio, then a finaliser that flips half of the 64 output bits, on average, when one input bit flips.

numpy and torch both wrap int64 products, so one piece of code serves arrays of either kind.
"""

import sys
import zlib

import numpy as np

GOLDEN = -0x61C8864680B583EB  # 2^64 / golden ratio, odd, as a signed 64-bit integer
MIX_1 = -0x40A7B892E31B1A47
MIX_2 = -0x6B2FB644ECCEEE15

# What a number is for. Numbers for different purposes are unrelated even under equal seeds.
SPLIT, OUTLIERS, ORDER, INIT, UPDATE_NOISE, WEIGHT_NOISE, DROPOUT = range(1, 8)


def mix(z):
    """SplitMix64's finaliser on int64 arrays (numpy or torch) of any shape: a bijection that scatters."""
    z = (z ^ ((z >> 30) & 0x3_FFFF_FFFF)) * MIX_1  # the mask makes the arithmetic shift a logical one
    z = (z ^ ((z >> 27) & 0x1F_FFFF_FFFF)) * MIX_2
    return z ^ ((z >> 31) & 0x1_FFFF_FFFF)


def key(seed, purpose, step):
    """int64 key(s) of one stream. `seed` and `step` are int64 arrays that broadcast; `purpose` an int.

    `step` is the number of the update (noise, dropout) or epoch (order), the size of the training set (split,
    outliers), or a name's code (init).
    """
    return mix(mix(mix(seed + GOLDEN) + purpose * 2 + 1) + step * GOLDEN)


def numpy_key(seed, purpose, step):
    """`key` for Python integers: an int64 array of shape (1,) (numpy warns when *scalars* wrap)."""
    return key(np.array([seed], np.int64), purpose, np.array([step], np.int64))


def bits(keys, index):
    """64 random bits as int64: `keys` (..., 1) and `index` (n,) give (..., n)."""
    return mix(keys + index * GOLDEN)


def uniform(bits_):
    """Uniform on [0, 1) as float64, from the top 53 bits: exact, so equal to the bit everywhere."""
    top = (bits_ >> 11) & 0x1F_FFFF_FFFF_FFFF
    return (top.astype(np.float64) if isinstance(top, np.ndarray) else top.double()) * 2.0**-53


def normal(keys, count, index=None):
    """Standard normals, float64: `keys` (..., 1) gives (..., count). `index`: arange((count + 1) // 2), which compiled
    code has to get from outside, for Triton would make it of 32 bits.

    Box-Muller; each hash is cut into two 32-bit uniforms and makes two normals: the cosines fill the first
    half of the row, the sines the second. Logarithm and cosine may differ between devices in their last bit.
    """
    half = (count + 1) // 2
    # This module imports none; who has such keys has loaded it
    xp = np if isinstance(keys, np.ndarray) else sys.modules["torch"]
    if index is None:
        index = xp.arange(half, **({} if xp is np else {"device": keys.device}))
    z = bits(keys, index)
    double = (lambda a: a.astype(np.float64)) if xp is np else (lambda a: a.double())
    u = (double((z >> 32) & 0xFFFF_FFFF) + 0.5) * 2.0**-32  # in (0, 1): the logarithm is finite
    v = double(z & 0xFFFF_FFFF) * 2.0**-32
    radius, angle = xp.sqrt(-2.0 * xp.log(u)), (2.0 * np.pi) * v
    return xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)], -1)[..., :count]


def order(keys, count):
    """A random order of 0..count-1 for every key, numpy: `keys` (..., 1) gives int64 (..., count)."""
    return np.argsort(bits(keys, np.arange(count)), axis=-1, kind="stable")


def name_code(name):
    """A fixed integer for a parameter's name, so that adding a parameter never moves another's start."""
    return zlib.crc32(name.encode())
