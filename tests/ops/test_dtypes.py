"""Numbers that are not float32: whole ones, complex, 8 bits, 64 bits, weakly typed; and sizes that are arrays."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import conv, layers, ops
from jconv.ops.norm import ghosts, moments
from tests.catalogue import LEAVES

ONES = jnp.ones(4)
OPS: dict[str, Callable[[Any], Any]] = {
    "conv": lambda x: conv(x, jnp.ones((3, 3, 4, 2))),
    "moments": moments,
    "batch_norm": lambda x: ops.batch_norm(x, ONES, ONES, ONES, ONES),
    "layer_norm": lambda x: ops.layer_norm(x, ONES, ONES),
    "group_norm": lambda x: ops.group_norm(x, ONES, ONES, groups=2),
    "local_response_norm": ops.local_response_norm,
    "standardize_kernel": ops.standardize_kernel,
    "im2col": lambda x: ops.im2col(x, 3),
    "col2im": lambda x: ops.col2im(x, 8, 2, stride=1, padding="SAME"),
    "max_pool": lambda x: ops.max_pool(x, 2),
    "avg_pool": lambda x: ops.avg_pool(x, 2),
    "blur_pool": ops.blur_pool,
    "apply_filter": lambda x: ops.apply_filter(x, "box"),
}


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool", "complex64"])
@pytest.mark.parametrize("name", OPS)
def test_what_multiplies_refuses_numbers_that_it_would_round(name: str, dtype: str) -> None:
    with pytest.raises(ValueError, match=rf": expected a floating-point array, got {dtype}; cast it first: \w+.astype"):
        OPS[name](jnp.ones((2, 8, 8, 4), dtype))


ROUNDING = {n for n, entry in LEAVES.items() if type(entry.layer).init is not layers.Layer.init or "drop" in n}


@pytest.mark.parametrize("name", sorted(ROUNDING))
def test_layers_that_multiply_refuse_pictures_of_bytes(name: str) -> None:
    layer, shape = LEAVES[name]
    arrays = layer.init(jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    with pytest.raises(ValueError, match="x: expected a floating-point array, got uint8; cast it first"):
        layer.apply(*arrays, jnp.ones(shape, jnp.uint8), train=True, key=jax.random.key(0))


def test_a_network_of_bytes_is_refused_when_it_is_made() -> None:
    net = layers.Sequential(flat=layers.Flatten(), fc=layers.Linear(3))
    with pytest.raises(ValueError, match="x: expected a floating-point array, got uint8") as error:
        net.init(jax.random.key(0), jax.ShapeDtypeStruct((2, 4, 4, 1), jnp.uint8))
    assert "in layer 'fc': Linear(3)" in error.value.__notes__


def test_a_complex_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel: expected real numbers, got complex64; convolve with its two parts"):
        conv(jnp.ones((1, 4, 4)), jnp.ones((3, 4, 2), jnp.complex64))


@pytest.mark.parametrize("lowering", ["lax", "im2col", "chunked", "kn2row", "auto"])
def test_a_weak_type_does_not_pass_through(lowering: str) -> None:
    assert not conv(jnp.full((1, 4, 4, 4), 1.0), jnp.ones((3, 3, 4, 4)), lowering=lowering).weak_type


@pytest.mark.parametrize("name", ["box", "gaussian", "binomial"])
def test_low_passes_sum_to_one_in_float64(name: str) -> None:
    with jax.enable_x64(True):
        y = ops.apply_filter(jnp.ones((1, 7, 8, 2)), name, size=5)
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, 1, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "float16", "bfloat16"])
def test_the_largest_of_narrow_numbers(dtype: str) -> None:
    """Also of those whose dtype has no infinity, beside padding."""
    x = jnp.asarray([-4.0, -2.0, 1.0, -8.0, -1.0]).astype(dtype).reshape(1, 5, 1)
    y = ops.max_pool(x, 3, stride=2, padding=1)
    np.testing.assert_array_equal(y.astype(jnp.float32).ravel(), [-2, 1, -1])


def test_sizes_may_be_numpys() -> None:
    x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 2))
    two: Any
    for two in (np.int64(2), np.array(2), jnp.int32(2), np.array([2, 2]), [2, 2]):
        np.testing.assert_array_equal(conv(x, kernel, stride=two), conv(x, kernel, stride=2))
        np.testing.assert_array_equal(ops.max_pool(x, two), ops.max_pool(x, 2))
    rows = ops.im2col(x, 3)
    size: Any
    for size in (np.int64(8), np.array(8), [8, 8]):
        np.testing.assert_array_equal(ops.col2im(rows, size, 3), ops.col2im(rows, 8, 3))
        np.testing.assert_array_equal(ops.conv_matrix(kernel, size), ops.conv_matrix(kernel, 8))


COUNTED: list[tuple[Callable, str, float]] = [
    (partial(ops.group_norm, scale=ONES, bias=ONES), "groups", 2.0),
    (ops.channel_shuffle, "groups", 2.0),
    (ghosts, "size", 2.0),
    (ops.local_response_norm, "size", 2.5),
]


@pytest.mark.parametrize(("f", "name", "value"), COUNTED)
def test_counts_are_whole(f: Callable, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"(groups|ghost|size): expected a positive .* got {value}"):
        f(jnp.ones((2, 4, 4, 4)), **{name: value})


def test_global_pools_take_numpys_arrays() -> None:
    x = np.arange(32, dtype=np.float32).reshape(2, 2, 2, 4)
    given: Any = x
    np.testing.assert_array_equal(ops.global_avg_pool(given), x.mean((1, 2)))
    np.testing.assert_array_equal(ops.global_max_pool(given), x.max((1, 2)))


def test_empty_batches() -> None:
    """Nothing in, nothing out, of the shape that there would be."""
    x = jnp.zeros((0, 8, 8, 4))
    for f, shape in (
        (lambda x: ops.group_norm(x, ONES, ONES, groups=2), (0, 8, 8, 4)),
        (lambda x: ops.im2col(x, 3), (0, 6, 6, 36)),
        (layers.Flatten(), (0, 256)),
        (layers.Flatten(channels_first=True), (0, 256)),
        (partial(ops.channel_shuffle, groups=2), (0, 8, 8, 4)),
        (ops.global_avg_pool, (0, 4)),
    ):
        assert f(x).shape == shape
    with pytest.raises(ValueError, match="ghost: expected a positive size that divides the batch of 0, got 2"):
        ghosts(x, size=2)
