"""The primitive: derivatives of every order, batching of every operand, many devices, and what it chooses and why."""

import itertools
import json
import subprocess
import sys
from functools import partial
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv import conv
from jconv.ops.choose import choose
from jconv.ops.lowerings import LOWERINGS, SLOTS, Form
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


MANY_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from jconv import conv
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
    exported = jax.export.export(f)(x)
    for n in (1, 5):
        given = jnp.arange(n * 256.0).reshape(n, 8, 8, 4) / 100
        np.testing.assert_allclose(exported.call(given), f(given), rtol=1e-5)


# The choice


def dense(n: int, size: int, channels: int, features: int, kernel: int, stride: int = 1) -> tuple[Form, int, int, int]:
    """What `choose` is asked about a dense convolution."""
    return Form((size,) * 2, (Axis(kernel, stride, 1, kernel // 2, kernel // 2),) * 2, 1), n, channels, features


def test_the_rule() -> None:
    form, *rest = dense(8, 28, 64, 64, 3)
    assert {choose("cpu", slot, form._replace(groups=64), *rest).lowering for slot in SLOTS} == {"shift"}
    assert {choose("cpu", slot, form._replace(groups=8), *rest).lowering for slot in SLOTS} == {"chunked"}
    assert {choose("cpu", slot, *dense(8, 28, 64, 64, 1, 2)).lowering for slot in SLOTS} == {"matmul"}
    for platform, slot in itertools.product(("cuda", "rocm", "tpu"), SLOTS):
        assert choose(platform, slot, form, *rest).lowering == "lax"


def test_a_large_window_is_a_fourier_transform() -> None:
    """Once it is one it stays one in a larger window, for every slot, dense and depthwise; never with a stride."""
    for groups in (1, 64):
        for slot in SLOTS:
            taken = []
            for kernel in range(3, 33, 2):
                form, *rest = dense(8, 32, 64, 64, kernel)
                taken.append(choose("cpu", slot, form._replace(groups=groups), *rest).lowering == "fft")
            assert taken == sorted(taken) and not taken[0] and taken[-1]
        form, *rest = dense(8, 32, 64, 64, 31, 2)
        assert choose("cpu", "y", form._replace(groups=groups), *rest).lowering != "fft"
    form, *rest = dense(64, 224, 256, 256, 31)
    assert choose("cpu", "y", form, *rest).lowering != "fft", "the transforms would take 30 GB"


def test_a_measured_convolution_takes_what_was_measured() -> None:
    rows = json.loads(resources.files("jconv.ops").joinpath("cpu.json").read_text())["rows"]
    assert len(rows) >= 20
    for row in rows:
        of = dict(row["of"])
        form = Form(tuple(of["sizes"]), tuple(Axis(*a) for a in of["window"]), of["groups"])
        for slot in SLOTS:
            found = choose("cpu", slot, form, of["batch"], of["channels"], of["features"])
            assert row[slot][found.lowering] <= 1.4 * min(row[slot].values()) + 1.0
            assert row["shape"] in found.why


def test_explain_says_what_and_why() -> None:
    x, kernel = jax.ShapeDtypeStruct((8, 28, 28, 64), "float32"), jax.ShapeDtypeStruct((3, 3, 64, 64), "float32")
    found = jconv.explain(x, kernel, padding="CIRCULAR", platform="cpu")
    assert {c.lowering for c in found} <= {*LOWERINGS}
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines] == ["forward", "input", "kernel"]
    assert all("measured on" in line and "lax" in line and " ms" in line for line in lines)
    assert "vendor" in str(jconv.explain(x, kernel, platform="cuda"))
    with pytest.raises(ValueError, match="kernel: x of shape"):
        jconv.explain(x, jax.ShapeDtypeStruct((3, 3, 3, 64), "float32"))


def test_a_lowering_that_does_not_fit_is_refused() -> None:
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    with pytest.raises(ValueError, match="lowering: 'shift' is only for one channel a group, got 2 in 1 groups"):
        conv(x, kernel, lowering="shift")
    with pytest.raises(ValueError, match=r"lowering: 'matmul' is only for a window of one element"):
        conv(x, kernel, lowering="matmul")


def test_eager_is_jit(rng: np.random.Generator) -> None:
    given = arrays(rng)
    f = partial(solve, "y", FORM, "chunked")
    np.testing.assert_allclose(
        f(x=given["x"], kernel=given["kernel"]), fast_jit(f)(x=given["x"], kernel=given["kernel"]), **CLOSE
    )
