"""What XLA's convolution on a CPU gets wrong or dies of, and jconv does not ask of it; all as XLA compiles it."""

from functools import partial

import jax
import numpy as np
import pytest

from jconv.ops.lowerings import Form, lax
from jconv.ops.window import Axis
from tests import oracles
from tests.ops.test_conv import CLOSE, compare, expected, random_numbers, value_and_gradients
from tests.oracles import Case, Window

Pair = tuple[int, int]


def check(rng: np.random.Generator, case: Case) -> None:
    """Value and both gradients, by the convolution and by the transposed one."""
    numbers = random_numbers(rng, case)
    for each in (case, case._replace(transposed=True)):
        f = jax.jit(partial(value_and_gradients, each, "lax"))
        compare(each, {"lax": f(*(a.astype(np.float32) for a in numbers))}, expected(each, numbers), **CLOSE)


@pytest.mark.parametrize("pads", [(2, 0), (0, 2), (3, 1), (2, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_beyond_the_reach_of_the_window(rng: np.random.Generator, pads: Pair, dilation: int) -> None:
    window = Window((2, 2), (1, 1), (pads, (pads[1], pads[0])), (dilation, 1))
    check(rng, Case((2, 4, 5, 2), (2, 2, 2, 1), window, 1))
    check(rng, Case((2, 4, 5, 2), (2, 2, 1, 4), window._replace(stride=(2, 1)), 2))


@pytest.mark.parametrize("size", [(5, 5), (6, 8), (4, 9)])
@pytest.mark.parametrize("lo", [0, 2, 3])
@pytest.mark.parametrize("features", [1, 2])
def test_maps_smaller_than_the_window(rng: np.random.Generator, size: Pair, lo: int, features: int) -> None:
    case = Case((1, *size, 1), (3, 2, 1, features), Window((3, 2), (3, 2), ((lo, 0), (1, 1)), (1, 1)), 1)
    dy = rng.normal(size=(1, *case.window.out(size), features)).astype("float32")
    kernel = rng.normal(size=case.kernel).astype("float32")
    form = Form(size, tuple(Axis(*a) for a in zip((3, 2), (3, 2), (1, 1), (lo, 1), (0, 1), strict=True)), 1)
    right, _ = oracles.conv_gradients(np.zeros(case.x), kernel, dy, case.window)
    np.testing.assert_allclose(jax.jit(lax.input_gradient, static_argnums=2)(kernel, dy, form), right, **CLOSE)
