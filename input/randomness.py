"""Random numbers as functions of (seed, epoch, record index): a hash, a permutation, uniforms.

They are written out here so that no library's new version can change a run. Integers in and out; no
state, no TensorFlow.
"""

import math
from functools import lru_cache

import numpy as np


def shuffle(
    positions: np.ndarray, n: int, seed: int, epoch: int, read_block: int = 1
) -> np.ndarray:
    """int64[...] positions in [0, n) -> int64[...] record indices, a bijection.

    With read_block > 1 the records form a ring, which each epoch divides from another offset into
    runs of read_block records and a shorter rest. The runs are permuted; the rest comes last.
    """
    if read_block == 1:
        return permute(positions, n, seed, epoch)
    runs = n // read_block
    numbers = np.array(positions, np.int64)
    whole = numbers < runs * read_block
    if runs:
        run, place = np.divmod(numbers[whole], read_block)
        numbers[whole] = permute(run, runs, seed, epoch) * read_block + place
    return (numbers + int(_key(seed, _OFFSETS, epoch)) % n) % n


_ROUNDS = 6  # even; 4 do for a large n (Luby and Rackoff 1988), but below 50 they show
_ORDER, VIEWS, _OFFSETS, MIXES, _PARTS = 0, 1, 2, 3, 4  # streams of random bits that share a seed


def permute(positions: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """int64[...] positions in [0, n) -> int64[...]: a bijection of [0, n) for each (seed, epoch).

    A Feistel network on the cells of a rectangle, which has n cells and less than a row more: what
    lands on one of those is sent through again until it is below n (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains", secs. 4 and 5).
    """
    width = math.isqrt(n - 1) + 1
    height = -(-n // width)
    numbers = _rectangle(np.asarray(positions, np.uint64), width, height, seed, epoch)
    while (outside := numbers >= np.uint64(n)).any():
        numbers[outside] = _rectangle(numbers[outside], width, height, seed, epoch)
    return numbers.astype(np.int64)


def _rectangle(cells: np.ndarray, width: int, height: int, seed: int, epoch: int) -> np.ndarray:
    """uint64[...] cells -> uint64[...]: a bijection of [0, width * height), both below 2**32."""
    size, other_size = _uint64(width), _uint64(height)
    other, half = np.divmod(cells, size)
    for i in range(_ROUNDS):
        # A number below `size`, which depends on the key and on `other`: the 32 high bits, scaled.
        shift = _mix(other ^ _key(seed, _ORDER, epoch, i))
        shift >>= _32
        shift *= size
        shift >>= _32
        half += shift
        np.minimum(half, half - size, out=half)  # modulo size: below it, the difference wraps
        half, other, size, other_size = other, half, other_size, size
    return other * size + half  # the rounds are even: both are at their place again


def uniform(
    seed: int, epoch: int, indices: np.ndarray, count: int, stream: int = VIEWS
) -> np.ndarray:
    """int64[n] record indices -> float32[n, count], uniform in [0, 1) over records and epochs."""
    bits = _mix(_key(seed, stream, epoch) + indices.astype(np.uint64))
    bits = _mix(bits[:, None] + np.arange(count, dtype=np.uint64))
    return (bits >> _40).astype(np.float32) * np.float32(2**-24)


def ranks(seed: int, contents: np.ndarray) -> np.ndarray:
    """uint32[n] checksums -> uint64[n]: a random place for each content; the same for the same."""
    return _mix(_key(seed, _PARTS) + contents.astype(np.uint64))


def _uint64(number: int) -> np.ndarray:
    # An array without axes: NumPy is slower with its own scalars (37 us, not 54, for 64 numbers).
    return np.array(number, np.uint64)


_GAMMA = _uint64(0x9E3779B97F4A7C15)
_MIX_1 = _uint64(0xBF58476D1CE4E5B9)
_MIX_2 = _uint64(0x94D049BB133111EB)
_27, _30, _31, _32, _40 = map(_uint64, (27, 30, 31, 32, 40))


@lru_cache(maxsize=256)
def _key(*numbers: int) -> np.ndarray:
    """uint64[]: random bits that depend on each of the numbers and their order."""
    key = np.zeros(1, np.uint64)
    for number in numbers:
        key = _mix(key + _uint64(number % 2**64))
    return key.reshape(())


def _mix(x: np.ndarray) -> np.ndarray:
    """The next value of splitmix64 in state x (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    x = x + _GAMMA
    x ^= x >> _30
    x *= _MIX_1
    x ^= x >> _27
    x *= _MIX_2
    x ^= x >> _31
    return x
