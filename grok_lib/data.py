"""Which equations a run trains on, in what order, and which of them are corrupted.

Everything here is a pure function of the spec's seeds. The split and the answers are made in numpy; the
minibatch stream is made where the training is, in torch, with the same bits.
"""

import dataclasses

import numpy as np
import torch

from grok_lib import rng
from grok_lib.operations import operation

LAST = torch.iinfo(torch.int64).max


def split(spec):
    """Indices of the training and of the validation equations: int64 (n_train,) and (N - n_train,).

    The train set's size enters the hash, so that the sets of one seed at two fractions are not nested (in the
    authors' code they are, and all seeds share one permutation).
    """
    keys = rng.numpy_key(spec.seed_for("split"), rng.SPLIT, spec.train_size)
    order = rng.order(keys, spec.equations)
    return order[:spec.train_size], order[spec.train_size:]


def answers(spec):
    """int64 (N,): the answer of every equation, with the spec's outliers put in.

    k training equations at random get the answers of k other training equations at random (Power et al., A.3; the
    authors' code draws the answers from the whole table, with replacement); validation is untouched. In a random order
    of the training set, the first k get the answers of those k places further on, wrapping round at its end (k - 1
    places where k is all of it).
    """
    right = operation(spec.operation, spec.modulus).equations[:, 2]
    if not spec.outliers:
        return right
    train, _ = split(spec)
    keys = rng.numpy_key(spec.seed_for("split"), rng.OUTLIERS, spec.train_size)
    order, k, n = train[rng.order(keys, spec.train_size)], spec.outliers, spec.train_size
    wrong = right.copy()
    wrong[order[:k]] = right[order[(np.arange(k) + min(k, n - 1)) % n]]
    return wrong


@dataclasses.dataclass
class Data:
    """The equations of R runs on one device, padded to the longest."""

    x: torch.Tensor  # int64 (R, N)
    y: torch.Tensor  # int64 (R, N)
    answer: torch.Tensor  # int64 (R, N)
    is_train: torch.Tensor  # bool (R, N)
    is_val: torch.Tensor  # bool (R, N); padding is neither
    # int64 (R, most n_train): indices of the training equations, padded with 0; sorted for full batches
    train: torch.Tensor
    order_seed: torch.Tensor  # int64 (R,)
    sizes: np.ndarray  # int64 (R,): n_train
    batches: np.ndarray  # int64 (R,): B
    full_batch: bool
    short_last_batch: bool

    def __post_init__(self):
        both = torch.as_tensor(np.stack([self.sizes, self.batches]), device=self.x.device)
        # (R, 1, 1), on the device, so that the stream waits for no upload
        self.sizes_there, self.batches_there = both[:, :, None, None]
        doublings = np.frexp(self.sizes)[1]
        # Runs whose training sets lie between the same two powers of two: their rows on the host, and on the device
        self.alike = []
        for each in np.unique(doublings):
            rows = np.flatnonzero(doublings == each)
            self.alike.append((rows, torch.as_tensor(rows, device=self.x.device)))

    def rows(self, keep):
        """The data of some of the runs; `keep` is an index tensor."""
        tensors = {f.name: getattr(self, f.name)[keep] for f in dataclasses.fields(self) if f.type is torch.Tensor}
        kept = keep.cpu().numpy()
        return dataclasses.replace(self, **tensors, sizes=self.sizes[kept], batches=self.batches[kept])


def load(specs, device):
    """The `Data` of a stack of specs."""
    N, n = max(s.equations for s in specs), max(s.train_size for s in specs)
    x, y, answer, train = (np.zeros((len(specs), width), np.int64) for width in (N, N, N, n))
    is_train, is_val = np.zeros((2, len(specs), N), bool)
    for r, spec in enumerate(specs):
        equations = operation(spec.operation, spec.modulus).equations
        x[r, :len(equations)], y[r, :len(equations)] = equations[:, 0], equations[:, 1]
        answer[r, :len(equations)] = answers(spec)
        on_train, on_val = split(spec)
        is_train[r, on_train], is_val[r, on_val] = True, True
        # Neighbours share rows of the cache
        train[r, :len(on_train)] = np.sort(on_train) if spec.full_batch else on_train
    on = lambda a: torch.as_tensor(a, device=device)
    return Data(x=on(x), y=on(y), answer=on(answer), is_train=on(is_train), is_val=on(is_val), train=on(train),
                order_seed=on(np.array([s.seed_for("order") for s in specs])),
                sizes=np.array([s.train_size for s in specs]), batches=np.array([s.batch for s in specs]),
                full_batch=specs[0].full_batch, short_last_batch=specs[0].short_last_batch)


def batch_stream(data, first, count):
    """The equations of `count` consecutive updates from update `first` (1, 2, ...): indices (R, count, B).

    A run's epochs, each a fresh order of its training set, are laid end to end and cut into batches of exactly the
    run's batch size (an epoch's remainder opens the next batch). With `short_last_batch` an epoch's remainder is a
    batch of its own. Where a batch is smaller than B it is filled up with some equations or other: the loss gives those
    no weight. Nothing here waits for the device.
    """
    B = int(data.batches.max())
    if data.full_batch:
        return data.train[:, None, :B].expand(-1, count, -1)
    chosen = data.train.new_empty(len(data.sizes), count, B)
    for rows, there in data.alike:
        chosen[there] = _stream(data, rows, there, first, count, B)
    return chosen


def _stream(data, rows, there, first, count, B):
    """`batch_stream` of some runs: host and device index `rows` and `there`. Their orders are as long as the longest
    training set, and as many as the epochs of the shortest, so sets of about one size go together."""
    sizes, batches, device = data.sizes[rows], data.batches[rows], data.train.device
    sizes_there, batches_there, n = data.sizes_there[there], data.batches_there[there], int(sizes.max())
    update, inside = first - 1 + torch.arange(count, device=device)[:, None], torch.arange(B, device=device)
    if data.short_last_batch:
        each = -(-sizes // batches)  # updates per epoch
        epochs = int(((first + count - 2) // each - (first - 1) // each).max()) + 1
        each = -(-sizes_there // batches_there)
        # (R, count, B)
        place = update // each * sizes_there + torch.minimum(update % each * batches_there + inside, sizes_there - 1)
    else:
        begin, end = (first - 1) * batches, (first + count - 2) * batches + B - 1  # of each stream: known on the host
        epochs = int((end // sizes - begin // sizes).max()) + 1
        place = update * batches_there + inside  # (R, count, B)
    first_epoch = place[:, :1, :1] // sizes_there
    epoch = first_epoch + torch.arange(epochs, device=device)[:, None]  # (R, epochs, 1)
    hashes = rng.bits(rng.key(data.order_seed[there, None, None], rng.ORDER, epoch), torch.arange(n, device=device))
    padding = torch.arange(n, device=device) >= sizes_there
    orders = hashes.masked_fill(padding, LAST).argsort(dim=-1, stable=True)  # padding sorts behind every equation
    at = (place // sizes_there - first_epoch) * n + place % sizes_there
    places = orders.flatten(1).gather(1, at.flatten(1))  # (R, count * B), in the training set
    return data.train[there].gather(1, places).view(at.shape)


def pick(data, chosen):
    """x, y and answer of the equations `chosen` (R, B): int64 (R, B) each."""
    return tuple(t.gather(1, chosen) for t in (data.x, data.y, data.answer))


def batch_weights(data, dtype):
    """(R, B): 1 / the run's own batch size for its equations, 0 for padding, so that a weighted sum is the run's
    mean."""
    B = int(data.batches.max())
    inside = np.arange(B) < data.batches[:, None]
    return torch.as_tensor(inside / data.batches[:, None], dtype=dtype, device=data.x.device)


def short_batch_weights(data, u, weights):
    """`weights` (R, B; read for its shape and type only) as update `u` (1,) has them where an epoch's last batch is
    short."""
    sizes, batches = data.sizes_there[..., 0], data.batches_there[..., 0]  # (R, 1)
    left = torch.minimum(sizes - (u - 1) % -(-sizes // batches) * batches, batches)
    return (torch.arange(weights.shape[1], device=u.device) < left) / left.to(weights.dtype)
