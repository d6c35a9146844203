"""The primitive: derivatives of every order, batching of every operand, many devices, sizes without a number."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jconv import conv
from jconv.layers import BatchNorm
from jconv.ops import avg_pool, max_pool
from jconv.ops.lowerings import LOWERINGS, SLOTS, Form
from jconv.ops.norm import moments
from jconv.ops.trilinear import solve
from jconv.ops.window import Axis
from tests import oracles
from tests.catalogue import fast_jit

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
FORM = Form((7, 6), (Axis(3, 2, 1, 1, 0), Axis(2, 1, 2, 0, 2)), 2)
SHAPES = {"x": (2, 7, 6, 4), "kernel": (3, 2, 2, 6), "y": (2, *FORM.out, 6)}
ANY = ("lax", "im2col", "chunked", "kn2row", "auto")


def arrays(rng: np.random.Generator, **extra: int) -> dict[str, jax.Array]:
    """Random x, kernel and y, each with a leading axis of its extra size if it has one."""
    return {s: jnp.float32(rng.normal(size=(*((extra[s],) if s in extra else ()), *SHAPES[s]))) for s in SLOTS}


@pytest.mark.parametrize("lowering", ANY)
def test_the_three_slots_are_one_form(rng: np.random.Generator, lowering: str) -> None:
    """<y, conv(x, kernel)> = <x, x of (kernel, y)> = <kernel, kernel of (x, y)>."""
    given = arrays(rng)
    values = []
    for slot in SLOTS:
        out = solve(slot, FORM, lowering, **{s: a for s, a in given.items() if s != slot})
        assert out.shape == SHAPES[slot]
        values.append(float(jnp.vdot(out, given[slot])))
    np.testing.assert_allclose(values, values[0], rtol=1e-4)


@pytest.mark.parametrize("slot", SLOTS)
def test_every_derivative_is_laxs(rng: np.random.Generator, slot: str) -> None:
    """Value, both gradients and a second derivative, of each slot."""
    first, second = (a for s, a in arrays(rng).items() if s != slot)
    weights = jnp.float32(rng.normal(size=SHAPES[slot]))

    def everything(lowering: str) -> Any:
        names = [s for s in SLOTS if s != slot]

        def f(a: jax.Array, b: jax.Array) -> jax.Array:
            return jnp.vdot(solve(slot, FORM, lowering, **dict(zip(names, (a, b), strict=True))) ** 3, weights)

        gradients = jax.grad(f, (0, 1))
        return gradients(first, second), jax.jvp(gradients, (first, second), (second.sum() * first, 0.5 * second))

    right, found = jax.jit(lambda: (everything("lax"), everything("chunked")))()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(jnp.abs(b).max())), found, right
    )


@pytest.mark.parametrize("slot", SLOTS)
def test_vmap_of_any_operand_at_any_axis_is_a_loop(rng: np.random.Generator, slot: str) -> None:
    names = [s for s in SLOTS if s != slot]
    for mapped in ([0], [1], [0, 1]):
        given = arrays(rng, **{names[i]: 3 for i in mapped})
        for axis in (0, 2):
            moved = [jnp.moveaxis(given[n], 0, axis) if i in mapped else given[n] for i, n in enumerate(names)]
            in_axes = [axis if i in mapped else None for i in range(2)]
            f = lambda a, b: solve(slot, FORM, "chunked", **dict(zip(names, (a, b), strict=True)))  # noqa: E731
            loop = [f(*(given[n][k] if i in mapped else given[n] for i, n in enumerate(names))) for k in range(3)]
            np.testing.assert_allclose(jax.vmap(f, in_axes)(*moved), jnp.stack(loop), **CLOSE)


FITTING: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict]] = {
    **{name: ((2, 6, 5, 4), (3, 2, 2, 6), {"groups": 2}) for name in (*ANY, "fft")},
    "shift": ((2, 6, 5, 4), (3, 2, 1, 8), {"groups": 4, "stride": 2}),
    "matmul": ((2, 6, 4, 4), (2, 2, 4, 3), {"stride": 2}),
    "winograd": ((2, 6, 5, 4), (3, 3, 4, 3), {"padding": 1}),
    "winograd4": ((2, 6, 5, 4), (3, 3, 4, 3), {"padding": 1}),
    "space_to_depth": ((2, 6, 5, 4), (3, 2, 4, 3), {"stride": 2}),
}


@pytest.mark.parametrize("lowering", FITTING)
def test_every_lowering_maps_over_kernels_and_examples(rng: np.random.Generator, lowering: str) -> None:
    """vmap over kernels is a loop over them; gradients of single examples add up to the batch's."""
    x, kernels, options = FITTING[lowering]
    x, kernels = jnp.float32(rng.normal(size=x)), jnp.float32(rng.normal(size=(3, *kernels)))
    f = partial(conv, lowering=lowering, **options)
    close = {k: v * oracles.ROUNDING.get(lowering, 1) for k, v in CLOSE.items()}
    loop = jnp.stack([f(x, k) for k in kernels])
    np.testing.assert_allclose(jax.vmap(f, (None, 0))(x, kernels), loop, **close)
    of_kernel = jax.jit(jax.grad(lambda k, x: jnp.sum(f(x, k) ** 2)))
    each = jax.vmap(of_kernel, (None, 0))(kernels[0], x[:, None])
    np.testing.assert_allclose(each.sum(0), of_kernel(kernels[0], x), **close)


def test_every_lowering_is_mapped() -> None:
    assert {*FITTING} == {*LOWERINGS, "auto"}


@pytest.mark.parametrize("empty", ["batch", "channels", "features"])
@pytest.mark.parametrize("lowering", FITTING)
def test_of_nothing_there_is_nothing(lowering: str, empty: str) -> None:
    """An empty batch has an empty value and a kernel gradient of zeros, and so with channels and features."""
    (n, *sizes, c), (*window, per_group, f), options = FITTING[lowering]
    n, c, per_group = (0 if empty == "batch" else n), *((0, 0) if empty == "channels" else (c, per_group))
    f = 0 if empty == "features" else f
    x, kernel = jnp.ones((n, *sizes, c)), jnp.ones((*window, per_group, f))
    if lowering == "shift" and empty == "channels":
        options = {**options, "groups": 1}
        with pytest.raises(ValueError, match="shift"):
            conv(x, kernel, lowering=lowering, **options)
        return
    y, back = jax.vjp(partial(conv, lowering=lowering, **options), x, kernel)
    dx, dkernel = back(jnp.ones_like(y))
    assert (dx.shape, dkernel.shape) == (x.shape, kernel.shape)
    assert not any(map(np.any, (y, dx, dkernel)))


MANY_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from jconv import conv
from jconv.layers import BatchNorm
from jconv.ops import avg_pool, max_pool
from jconv.ops.lowerings import chunks
chunks.CHUNK = 2000
rng = np.random.default_rng(0)
x, kernel = (jnp.asarray(rng.normal(size=s), "float32") for s in ((16, 7, 6, 4), (3, 2, 2, 6)))
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("i",))
assert mesh.size == 4
for lowering in ("auto", "chunked", "kn2row", "lax"):
    loss = lambda kernel, x: jnp.sum(conv(x, kernel, stride=2, groups=2, lowering=lowering) ** 2)
    gradients = jax.jit(jax.grad(loss, (0, 1)))
    right = gradients(kernel, x)
    def of_part(kernel, x):
        dkernel, dx = gradients(kernel, x)
        return (dkernel if check else jax.lax.psum(dkernel, "i")), dx
    found = [gradients(kernel, jax.device_put(x, NamedSharding(mesh, P("i"))))]
    for check in (True, False):
        split = jax.shard_map(of_part, mesh=mesh, in_specs=(P(), P("i")), out_specs=(P(), P("i")), check_vma=check)
        found.append(jax.jit(split)(kernel, x))
    for got in found:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, right)
"""


def test_many_devices_are_one() -> None:
    """jit with shardings and shard_map, on four simulated devices, in an interpreter that starts with them."""
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", MANY_DEVICES], env=env, check=True)


EXPLICIT = """
import jax, numpy as np
from functools import partial
from jax.sharding import NamedSharding, PartitionSpec as P
from jconv import conv, conv_transpose, ops
mesh = jax.make_mesh((2, 2), ("i", "j"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
rng = np.random.default_rng(0)
x, kernel = (rng.normal(size=s).astype("float32") for s in ((4, 8, 6, 4), (3, 3, 4, 6)))
square = lambda f, x, *given: (f(x, *given) ** 2).sum()
placed = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))
def of(f, *given):
    gradients = jax.grad(partial(square, f), tuple(range(len(given))))
    return [jax.jit(f)(*given), *jax.jit(gradients)(*given)]
cases = [  # a function, how its arguments are split, how its value is
    (partial(conv, padding=1), (x, kernel), [(P("i"), P(), P("i")), (P("i", None, None, "j"), P(), P("i")),
        (P("i", "j"), P(None, None, None, "j"), P("i", "j")), (P(("i", "j")), P(), P(("i", "j"))),
        (P(None, None, None, "j"), P(None, None, "j", "i"), P(None, None, None, "i"))]),
    (partial(conv, stride=2), (x, kernel), [(P(None, "i"), P(), P())]),
    (partial(conv, groups=2), (x, kernel[:, :, :2]), [(P("i", None, None, "j"), P(), P("i"))]),
    (partial(conv_transpose, stride=2), (x, kernel.swapaxes(2, 3)), [(P("i"), P(None, None, "j"),
        P("i", None, None, "j"))]),
]
with jax.set_mesh(mesh):
    for f, given, splits in cases:
        for lowering in ("auto", "im2col", "lax"):
            g = partial(f, lowering=lowering)
            right = of(g, *given)
            for *specs, out in splits:
                found = of(g, *map(placed, given, specs))
                for a, b in zip(found, right, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
                for a, spec in zip(found, (out, *specs), strict=True):
                    split = jax.typeof(a).sharding.spec
                    assert (*split, *(None,) * 4)[:4] == (*spec, *(None,) * 4)[:4], (f, lowering, split, spec)
"""


def test_a_mesh_of_explicit_axes() -> None:
    """What arrays are split along is part of their type: of values and gradients it is what the operands' says."""
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", EXPLICIT], env=env, check=True)


@pytest.mark.parametrize("lowering", ANY)
def test_the_precision_asked_for_is_that_of_every_slot(lowering: str) -> None:
    """Though the request has ended when the program is lowered; a GPU would multiply with 10 bits otherwise."""

    def f(x: jax.Array, kernel: jax.Array) -> Any:
        with jax.default_matmul_precision("highest"):
            y, back = jax.vjp(partial(conv, lowering=lowering), x, kernel)
        return y, *back(y)

    like = jax.ShapeDtypeStruct((1, 8, 8, 4), "float32"), jax.ShapeDtypeStruct((3, 3, 4, 6), "float32")
    text = export.export(jax.jit(f), platforms=["cuda"])(*like).mlir_module()
    products = [
        line for line in text.splitlines() if "stablehlo.dot_general" in line or "stablehlo.convolution" in line
    ]
    assert len(products) >= 3
    assert all(line.count("HIGHEST") == 2 for line in products)


def test_an_empty_map(rng: np.random.Generator) -> None:
    """`jax.vmap` over nothing is nothing, of the shape that each would have."""
    given = arrays(rng)
    for slot in SLOTS:
        first, second = (s for s in SLOTS if s != slot)
        for axes in ((0, 0), (0, None), (None, 0)):
            of = jax.vmap(lambda a, b: solve(slot, FORM, "auto", **{first: a, second: b}), axes)  # noqa: B023
            none = [a[None][:0] if at == 0 else a for a, at in zip((given[first], given[second]), axes, strict=True)]
            assert of(*none).shape == (0, *SHAPES[slot])


def test_remat_and_scan(rng: np.random.Generator) -> None:
    given = arrays(rng)
    f = lambda k: jnp.sum(solve("y", FORM, "auto", x=given["x"], kernel=k) ** 2)  # noqa: E731
    right = jax.grad(f)(given["kernel"])
    np.testing.assert_allclose(jax.grad(jax.checkpoint(f))(given["kernel"]), right, **CLOSE)
    scanned = jax.grad(lambda k: jax.lax.scan(lambda c, _: (c + f(k), None), 0.0, length=3)[0])(given["kernel"])
    np.testing.assert_allclose(scanned, 3 * right, rtol=1e-4, atol=1e-3)


def test_rounding_is_that_of_lax(rng: np.random.Generator) -> None:
    """No lowering errs more than 4 times as much as lax, against float64, in any slot."""
    dense = Form((9, 9), (Axis(3, 1, 1, 1, 1),) * 2, 1)
    depthwise, long = dense._replace(groups=64), Form((81,), (Axis(25, 1, 1, 12, 12),), 1)
    for form, kernel in ((dense, (3, 3, 64, 64)), (depthwise, (3, 3, 1, 64)), (long, (25, 64, 64))):
        shapes = {"x": (4, *form.sizes, 64), "kernel": kernel, "y": (4, *form.sizes, 64)}
        given = {s: rng.normal(size=shape) for s, shape in shapes.items()}
        for slot in SLOTS:
            others = {s: a for s, a in given.items() if s != slot}
            with jax.enable_x64(True):
                exact = np.asarray(solve(slot, form, "lax", **jax.tree.map(jnp.float64, others)))
            names = [n for n, one in LOWERINGS.items() if not one.fits(form, 64, 64)]
            run = jax.jit(lambda g, slot=slot, form=form, names=names: {n: solve(slot, form, n, **g) for n in names})
            found = run(jax.tree.map(jnp.float32, others))
            error = {n: np.sqrt(np.mean((np.float64(v) - exact) ** 2)) for n, v in found.items()}
            for name, value in error.items():
                assert value <= oracles.ROUNDING.get(name, 4) * error["lax"], (slot, name, error)


@pytest.mark.parametrize("lowering", ANY)
def test_a_symbolic_batch_exports(lowering: str) -> None:
    [batch] = jax.export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((batch, 8, 8, 4), jnp.float32)
    f = jax.jit(lambda x: conv(x, jnp.ones((3, 3, 4, 2)), padding=1, lowering=lowering))
    exported = export.export(f)(x)
    for n in (1, 5):
        given = jnp.arange(n * 256.0).reshape(n, 8, 8, 4) / 100
        np.testing.assert_allclose(exported.call(given), f(given), rtol=1e-5)


def test_symbolic_sizes_export() -> None:
    n, height, width = jax.export.symbolic_shape("n, h, w", constraints=["h >= 8", "w >= 8"])
    x = jax.ShapeDtypeStruct((n, height, width, 4), jnp.float32)
    f = jax.jit(lambda x: conv(x, jnp.ones((3, 3, 4, 2)), padding=1))
    exported = export.export(f)(x)
    given = jnp.arange(2 * 9 * 11 * 4.0).reshape(2, 9, 11, 4) / 100
    np.testing.assert_allclose(exported.call(given), f(given), rtol=1e-5)


def test_each_examples_gradient_exports_at_any_batch() -> None:
    """Of a sum, where only x is mapped: else they are a convolution of as many groups as examples, which JAX lacks."""
    [batch] = jax.export.symbolic_shape("b")
    each = jax.vmap(jax.grad(lambda kernel, x: conv(x[None], kernel).sum()), (None, 0))
    f = jax.jit(lambda x: each(jnp.ones((3, 3, 3, 2)), x))
    exported = export.export(f)(jax.ShapeDtypeStruct((batch, 8, 8, 3), jnp.float32))
    given = jnp.cos(jnp.arange(3 * 192.0)).reshape(3, 8, 8, 3)
    np.testing.assert_allclose(exported.call(given), f(given), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: max_pool(x, 3, stride=2, padding=1),
        lambda x: avg_pool(x, 2),
        lambda x: conv(x, jnp.ones((3, 3, 4, 2)), padding="SAME"),
        lambda x: moments(x)[:2],
        lambda x: BatchNorm().apply(*BatchNorm().init(jax.random.key(0), x), x, train=True),
    ],
)
def test_what_is_between_convolutions_exports_at_any_size(f: Callable) -> None:
    n, height, width = jax.export.symbolic_shape("n, h, w", constraints=["h >= 8", "w >= 8"])
    exported = export.export(jax.jit(f))(jax.ShapeDtypeStruct((n, height, width, 4), jnp.float32))
    given = jnp.cos(jnp.arange(2 * 9 * 11 * 4.0)).reshape(2, 9, 11, 4)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), exported.call(given), f(given))


def test_padding_that_depends_on_a_size_without_a_number_is_refused() -> None:
    height, width = jax.export.symbolic_shape("h, w", constraints=["h >= 8", "w >= 8"])
    f = jax.jit(lambda x: conv(x, jnp.ones((3, 3, 4, 2)), padding="SAME", stride=2))
    with pytest.raises(ValueError, match="padding: with a stride of 2, 'SAME' depends on the size of the image, which"):
        export.export(f)(jax.ShapeDtypeStruct((1, height, width, 4), jnp.float32))


def test_a_lowering_that_does_not_fit_is_refused() -> None:
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    with pytest.raises(ValueError, match="lowering: 'shift' is only for one channel a group, got 2 in 1 groups"):
        conv(x, kernel, lowering="shift")
    with pytest.raises(ValueError, match=r"lowering: 'matmul' is only for one group and windows of one element"):
        conv(x, kernel, lowering="matmul")


def test_eager_is_jit(rng: np.random.Generator) -> None:
    given = arrays(rng)
    f = partial(solve, "y", FORM, "chunked")
    np.testing.assert_allclose(
        f(x=given["x"], kernel=given["kernel"]), fast_jit(f)(x=given["x"], kernel=given["kernel"]), **CLOSE
    )
