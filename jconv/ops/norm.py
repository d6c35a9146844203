"""Normalisation as functions: of a batch, each example, neighbouring channels, a kernel; a batch's folded into one."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.padding import check_floating
from jconv.ops.window import whole

__all__ = [
    "batch_norm",
    "fold_batch_norm",
    "ghosts",
    "group_norm",
    "layer_norm",
    "local_response_norm",
    "moments",
    "standardize_kernel",
]


def moments(x: jax.Array, *, axis_name: str | None = None) -> tuple[jax.Array, jax.Array, int | jax.Array]:
    """Mean and biased variance of each channel, over every other axis, in at least float32.

    Args:
        x: (..., C).
        axis_name: a mapped axis (`jax.pmap`, `jax.vmap`, `jax.shard_map`) over which the batch is split.
            Under `jax.jit` with sharded arrays none is needed: the batch is whole there.

    Returns:
        mean (C,), variance (C,), and the number of elements each was taken over.

    Raises:
        ValueError: no elements.
    """
    check_floating(x)
    if 0 in x.shape:
        raise ValueError(f"x: expected some elements to take mean and variance of, got shape {x.shape}")
    x = _wide(x)
    n = x.size // x.shape[-1]
    mean = _mean(x)
    if axis_name is not None:
        mean, n = lax.pmean(mean, axis_name), n * lax.axis_size(axis_name)
    var = _spread(x, mean)
    if axis_name is not None:
        var = lax.pmean(var, axis_name)
    return mean, var, n


@jax.custom_jvp
def _spread(x: jax.Array, mean: jax.Array) -> jax.Array:
    """The mean square distance from `mean` (C,) of each channel; its derivative keeps x and not the distances."""
    return _mean(lax.square(lax.sub(x, _along(mean, x))))


@_spread.defjvp
def _(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x, mean), (dx, dmean) = primals, tangents
    along_x = _mean(lax.mul(x, dx)) - mean * _mean(dx)
    return _spread(x, mean), 2 * along_x - 2 * (_mean(x) - mean) * dmean


def batch_norm(
    x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array, *, eps: float = 1e-5
) -> jax.Array:
    """`y = (x - mean) / sqrt(var + eps) * scale + bias`, computed in at least float32.

    As one product and one sum, `x * gain + (bias - mean * gain)`: `x - mean` would be one more array to write, and to
    keep for the gradient. The rounding is that of x itself.

    Args:
        x: (..., C).
        mean, var, scale, bias: (C,).

    Returns:
        (..., C) in x's dtype.

    Raises:
        ValueError: one of these that has not one number for each channel.

    Example:
        >>> batch_norm(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.ones(2), jnp.ones(2), jnp.zeros(2), eps=0.0)
        Array([[0., 2.]], dtype=float32)

    References:
        Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
    """
    check_floating(x)
    wide = _wide(x)
    mean, var, scale, bias = (
        lax.convert_element_type(_for_each_channel(name, a, x.shape[-1]), wide.dtype)
        for name, a in (("mean", mean), ("var", var), ("scale", scale), ("bias", bias))
    )
    gain = lax.mul(scale, lax.rsqrt(lax.add(var, lax.convert_element_type(eps, var.dtype))))
    shift = lax.sub(bias, lax.mul(mean, gain))
    return lax.convert_element_type(wide * gain + shift, x.dtype)  # which keeps gain, and not gain for each element


def ghosts(x: jax.Array, *, size: int) -> jax.Array:
    """A batch as ghost batches: each is normalised by its own moments, whatever the size of the whole.

    Args:
        x: (N, ..., C).
        size: examples in a ghost batch; it divides N.

    Returns:
        (N / size, size, ..., C), in x's order.

    Raises:
        ValueError: a size that does not divide the batch.

    Example:
        >>> jax.vmap(lambda x: moments(x)[0])(ghosts(jnp.array([[1.0], [3.0], [5.0], [9.0]]), size=2))
        Array([[2.],
               [7.]], dtype=float32)

    References:
        Hoffer, Hubara & Soudry 2017, "Train longer, generalize better", arXiv:1705.08741, algorithm 1.
    """
    n = x.shape[0]
    meaning = f"a positive size that divides the batch of {n}"
    if n == 0 or n % whole("ghost", size, meaning):
        raise ValueError(
            f"ghost: expected {meaning}, got {size}; drop the last examples of an epoch, or choose another size"
        )
    return x.reshape(n // size, size, *x.shape[1:])


def layer_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, *, spatial: bool = False, eps: float = 1e-5
) -> jax.Array:
    """`y = (x - mean) / sqrt(var + eps) * scale + bias` with the moments of each position, or of each example.

    Args:
        x: (N, ..., C).
        scale, bias: (C,), or what broadcasts to x without its batch axis.
        spatial: take the moments over the spatial axes too, so over all axes but the first.
        eps: added to the (biased) variance.

    Returns:
        (N, ..., C) in x's dtype, computed in at least float32.

    Raises:
        ValueError: scale or bias that does not broadcast so.

    Example:
        >>> layer_norm(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.zeros(2), eps=0.0)
        Array([[-1.,  1.]], dtype=float32)

    References:
        Ba, Kiros & Hinton 2016, arXiv:1607.06450; over the channels of each position as in Liu et al. 2022, "A ConvNet
        for the 2020s", arXiv:2201.03545, section 2.6.
    """
    check_floating(x)
    for name, a in (("scale", scale), ("bias", bias)):
        if a.ndim >= x.ndim or any(n not in (1, m) for n, m in zip(a.shape[::-1], x.shape[::-1], strict=False)):
            raise ValueError(f"{name}: expected ({x.shape[-1]},), or what broadcasts to {x.shape[1:]}, got {a.shape}")
    y = _standardized(x, tuple(range(1, x.ndim)) if spatial else (-1,), eps)
    return (y * scale.astype(y.dtype) + bias.astype(y.dtype)).astype(x.dtype)


def group_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, *, groups: int, eps: float = 1e-5) -> jax.Array:
    """`y = (x - mean) / sqrt(var + eps) * scale + bias` with the moments of each example's groups of channels.

    One group is `layer_norm` over the example; as many groups as channels is instance normalisation.

    Args:
        x: (N, ..., C).
        scale, bias: (C,).
        groups: the channels are split into this many groups of neighbours; moments are over a group and all positions.
        eps: added to the (biased) variance.

    Returns:
        (N, ..., C) in x's dtype, computed in at least float32.

    Raises:
        ValueError: groups that do not divide the channels; scale or bias that has not one number for each.

    Example:
        >>> group_norm(jnp.array([[1.0, 3.0, 10.0, 20.0]]), jnp.ones(4), jnp.zeros(4), groups=2, eps=0.0)
        Array([[-1.,  1., -1.,  1.]], dtype=float32)

    References:
        Wu & He 2018, arXiv:1803.08494, equations 1 to 7. Instance normalisation: Ulyanov et al. 2016, arXiv:1607.08022.
    """
    check_floating(x)
    meaning = f"a positive number that divides the {x.shape[-1]} channels of x"
    if x.shape[-1] % (groups := whole("groups", groups, meaning)):
        raise ValueError(f"groups: expected {meaning}, got {groups}")
    grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    scale, bias = (_for_each_channel(n, a, x.shape[-1]) for n, a in (("scale", scale), ("bias", bias)))
    y = _standardized(grouped, (*range(1, x.ndim - 1), x.ndim), eps).reshape(x.shape)
    return (y * scale.astype(y.dtype) + bias.astype(y.dtype)).astype(x.dtype)


def local_response_norm(
    x: jax.Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> jax.Array:
    """`y[c] = x[c] / (k + alpha * sum of x[j]² over the channels j around c) ** beta`, at each position.

    Args:
        x: (..., C).
        size: channels in the sum: size // 2 before c, c, and (size - 1) // 2 after it, as far as there are any.
        alpha: weight of the sum. Caffe and torch divide by the size as well: theirs is `size` times this one.
        beta, k: the exponent and the constant. The defaults are the paper's.

    Returns:
        (..., C) in x's dtype, computed in at least float32.

    Raises:
        ValueError: a size that is not positive.

    Example:
        >>> local_response_norm(jnp.array([3.0, 4.0, 0.0]), size=3, alpha=1.0, beta=0.5, k=0.0)
        Array([0.6, 0.8, 0. ], dtype=float32)

    References:
        Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural networks",
        section 3.3.
    """
    check_floating(x)
    size = whole("size", size, "a positive number of channels")
    wide = _wide(x)
    last = (1,) * (x.ndim - 1)
    pads = [(0, 0)] * (x.ndim - 1) + [(size // 2, (size - 1) // 2)]
    zero = np.array(0, wide.dtype)
    total = lax.reduce_window(jnp.square(wide), zero, lax.add, (*last, size), (*last, 1), pads)
    return (wide * (k + alpha * total) ** -beta).astype(x.dtype)


def standardize_kernel(kernel: jax.Array, *, scaled: bool = False, eps: float = 1e-6) -> jax.Array:
    """The kernel of each feature with mean 0 and variance 1 over window and input channels: weight standardisation.

        k' = (k - mean) / sqrt(var + eps),   scaled: k' / sqrt(fan_in)

    Args:
        kernel: (*window, C / groups, features), or (C, features).
        scaled: divide by the root of the number of inputs that a feature sums over too, so that an input of unit
            variance makes an output of unit variance.
        eps: added to the (biased) variance.

    Returns:
        The kernel's shape and dtype, computed in at least float32.

    Example:
        >>> standardize_kernel(jnp.array([[1.0], [3.0]]), eps=0.0)
        Array([[-1.],
               [ 1.]], dtype=float32)

    References:
        Qiao et al. 2019, "Weight Standardization", arXiv:1903.10520, equations 4 to 6. Scaled: Brock, De & Smith 2021,
        "Characterizing signal propagation to close the performance gap in unnormalized ResNets", arXiv:2101.08692,
        section 4.
    """
    check_floating(kernel, "kernel")
    y = _standardized(kernel, tuple(range(kernel.ndim - 1)), eps)
    fan_in = kernel.size // kernel.shape[-1]
    return (y / fan_in**0.5 if scaled else y).astype(kernel.dtype)


def fold_batch_norm(
    kernel: jax.Array,
    bias: jax.Array | None,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias_bn: jax.Array,
    *,
    eps: float = 1e-5,
) -> tuple[jax.Array, jax.Array]:
    """The kernel and bias of the one convolution that does what a convolution and a batch norm after it do.

        gain = scale / sqrt(var + eps),   kernel' = kernel * gain,   bias' = (bias - mean) * gain + bias_bn

    Args:
        kernel: (*window, C / groups, features), of any groups, or a linear layer's (C, features).
        bias: (features,), or None.
        mean, var, scale, bias_bn: (features,), the batch norm's; see `batch_norm`.
        eps: the batch norm's.

    Returns:
        kernel and bias (features,) in their dtypes; the bias without one in the kernel's.

    Raises:
        ValueError: an array that has not one number for each feature.

    Example:
        >>> one, two = jnp.ones(1), 2 * jnp.ones(1)
        >>> fold_batch_norm(jnp.ones((1, 1, 1)), None, mean=two, var=one, scale=two, bias_bn=one, eps=0.0)
        (Array([[[2.]]], dtype=float32), Array([-3.], dtype=float32))

    References:
        Jacob et al. 2017, "Quantization and training of neural networks for efficient integer-arithmetic-only
        inference", arXiv:1712.05877, section 3.2.
    """
    bias = jnp.zeros(kernel.shape[-1:], kernel.dtype) if bias is None else bias
    given = {"bias": bias, "mean": mean, "var": var, "scale": scale, "bias_bn": bias_bn}
    bias, mean, var, scale, bias_bn = (_for_each_channel(name, a, kernel.shape[-1]) for name, a in given.items())
    gain = scale * lax.rsqrt(var + eps)
    new = _wide(kernel) * gain, (_wide(bias) - mean) * gain + bias_bn
    return new[0].astype(kernel.dtype), new[1].astype(bias.dtype)


def _for_each_channel(name: str, a: jax.Array, channels: int) -> jax.Array:
    if a.shape != (channels,):
        raise ValueError(f"{name}: expected shape ({channels},), one number for each channel, got {a.shape}")
    return a


# A network has hundreds of BatchNorms, and tracing takes jax.numpy's functions ten times as long as those of lax.


def _mean(x: jax.Array) -> jax.Array:
    """Of each channel."""
    n = x.size // x.shape[-1]
    count = np.array(n, x.dtype) if isinstance(n, int) else jnp.asarray(n).astype(x.dtype)
    return lax.div(lax.reduce_sum(x, range(x.ndim - 1)), count)


def _along(a: jax.Array, x: jax.Array) -> jax.Array:
    """A number for each channel (C,) in the shape of x (..., C)."""
    return lax.broadcast_in_dim(a, x.shape, (x.ndim - 1,))


def _wide(x: jax.Array) -> jax.Array:
    return lax.convert_element_type(x, np.promote_types(x.dtype, np.float32))


def _standardized(x: jax.Array, axes: tuple[int, ...], eps: float) -> jax.Array:
    """(x - mean) / sqrt(var + eps) over these axes, in at least float32."""
    x = _wide(x)
    centred = x - x.mean(axes, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + eps)
