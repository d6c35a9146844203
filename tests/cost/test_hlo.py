"""XLA's side: instructions against XLA's own totals, their layers, the reasons for differences, memory, bad text."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jconv
from jconv import cost
from jconv.cost.compare import Comparison, compare_found
from jconv.cost.hlo_text import parse
from jconv.cost.op_names import label_of, parameter_path
from jconv.cost.xla import Totals, Xla
from jconv.layers import Activation, BatchNorm, Conv, GlobalAvgPool, Linear, MaxPool, Residual, Sequential


def spec(*shape: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


NET = Sequential(
    conv1=Conv(8, 3, stride=2, bias=False, lowering="lax"),
    bn1=BatchNorm(),
    act1=Activation("relu"),
    pool=MaxPool(3, stride=2),
    block=Residual(Sequential(conv2=Conv(8, 3, lowering="lax"), grouped=Conv(8, 3, groups=4, lowering="lax"))),
    body=Sequential(GlobalAvgPool(), Linear(10)),
)
X = spec(2, 20, 20, 3)
ARGS = (*jax.eval_shape(NET.init, jax.random.key(0), X), X)


@cache
def compared(kind: str) -> Comparison:
    """One compilation each, for many laws."""
    if kind == "train":
        return cost.compare(partial(NET.apply, train=True), *ARGS, mode="train", has_aux=True)
    if kind == "step":
        return cost.compare(step, *ARGS)
    return cost.compare(looped, spec(5, 4, 4), spec(3, 4))


def step(params: Any, state: Any, x: jax.Array) -> Any:
    def loss(params: Any) -> Any:
        y, new = NET.apply(params, state, x, train=True)
        return -jax.nn.log_softmax(y)[:, 0].mean(), new

    gradients, new = jax.grad(loss, has_aux=True)(params)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), new


def looped(w: jax.Array, x: jax.Array) -> jax.Array:
    def body(x: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
        with jax.named_scope("dense"):
            return jnp.tanh(x @ w), None

    x, _ = lax.scan(body, x, w)
    with jax.named_scope("choice"):
        x = lax.cond(x.sum() > 0, lambda x: x @ x.T @ x, lambda x: x * 2, x)
    return jnp.sort(x.astype("bfloat16").astype("float32"), axis=-1)


KINDS = ("train", "step", "loop")


@pytest.mark.parametrize("kind", KINDS)
def test_instructions_sum_to_what_xla_says(kind: str) -> None:
    found: Xla = compared(kind).xla
    for rows, total in ((found.lowered, found.lowered_total), (found.compiled, found.compiled_total)):
        assert total is not None
        assert rows.flops == pytest.approx(total.flops, rel=1e-6)
        assert rows.transcendentals == pytest.approx(total.transcendentals, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_sum_to_the_instructions_at_every_depth(kind: str) -> None:
    compiled = compared(kind).xla.compiled
    for depth in (None, 1, 2):
        layers = compiled.by_layer(depth).values()
        assert sum(layer.flops for layer in layers) == compiled.flops == sum(compiled.by_provenance().values())
        assert sum(layer.executed for layer in layers) == compiled.executed
    total = compared(kind).total
    assert (total.analytic, total.compiled) == (compared(kind).result.total.flops, compiled.executed)


@pytest.mark.parametrize("kind", ["train", "step"])
def test_nearly_all_flops_of_a_train_step_have_a_layer(kind: str) -> None:
    compiled = compared(kind).xla.compiled
    assert compiled.attributed >= 0.99
    layers = {layer.path for layer in compared(kind).result.by_layer()}
    assert set(compiled.by_layer()) <= layers | {""}


@pytest.mark.parametrize("kind", ["train", "step"])
def test_convolutions_of_each_layer_have_the_flops_that_are_counted_or_the_row_says_why(kind: str) -> None:
    found = compared(kind)
    for path in ("conv1", "block.conv2", "block.grouped"):
        ours = sum(2 * r.cost.macs_valid for r in found.result.rows if r.path == path)
        assert ours > 0
        for rows in (found.xla.lowered.rows, found.xla.compiled.rows):
            theirs = sum(r.flops for r in rows if r.path == path and r.opcode in ("convolution", "dot"))
            why = next(layer.reasons for layer in found.layers if layer.path == path)
            assert theirs == ours or any("grouped convolution expanded" in reason for reason in why)
            assert path == "block.grouped" or theirs == ours


def test_an_iteration_counts_once_in_xla_and_always_here() -> None:
    found = compared("loop")
    layer = next(layer for layer in found.layers if layer.path == "dense")
    assert layer.analytic == layer.lowered == 5 * 2 * 3 * 4 * 4
    assert any(reason.startswith("loops: XLA's own total counts a body once") for reason in layer.reasons)
    assert found.xla.lowered.executed - found.xla.lowered.flops >= 4 * 2 * 3 * 4 * 4
    (rest,) = (layer for layer in found.layers if layer.path == "")
    assert any("casts" in reason for reason in rest.reasons)
    assert any("logarithm of all elements" in reason for reason in rest.reasons)
    assert found.to_markdown().count("\n") == len(found.layers) + 2


def test_another_lowering_is_a_reason() -> None:
    f = jax.named_call(partial(jconv.conv, padding=1, lowering="im2col"), name="conv")
    found = cost.compare(f, spec(2, 6, 6, 3), spec(3, 3, 3, 4))
    (layer,) = found.layers
    assert layer.path == "conv"
    assert layer.lowered > layer.analytic, "a matmul multiplies the padding too"
    assert any("lowering: another algorithm" in reason for reason in layer.reasons)


def test_memory_is_all_that_is_held() -> None:
    memory = compared("train").xla.memory
    assert memory is not None
    assert memory.argument == sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(ARGS))
    assert memory.peak == memory.argument + memory.output + memory.temporary - memory.alias
    assert memory.temporary > 0
    assert Totals(1.0, 0.0, 2.0).flops == 1.0


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("jit(f)/transpose(jvp(layer1))/0/conv1/conv_general_dilated", ("layer1.0.conv1", "backward")),
        ("jit(f)/jvp(a)/while/body/closed_call/dense/dot_general", ("a.dense", "forward")),
        ("jit(f)/b/cond/branch_1_fun/jit(relu)/max", ("b", "forward")),
        ("jit(f)/sub", ("", "forward")),
        ("jit(f)/jvp(a)/mul;jit(f)/jvp(b)/add", ("a", "forward")),
        ("jit(f)/jvp(net)/body/add", ("net.body", "forward")),
        ("jit(f)/transpose(jvp(a))/rematted_computation/b/sin", ("a.b", "recompute")),
        ("jit(f)/jvp(conv1)/jconv_conv/while/body/dot_general", ("conv1", "forward")),
    ],
)
def test_names_tell_layer_and_phase(name: str, label: tuple[str, str]) -> None:
    assert label_of(name) == label


def test_names_of_parameters_tell_their_layer() -> None:
    assert parameter_path("params['layer1']['0']['conv1']['kernel']") == "layer1.0.conv1"
    assert parameter_path("model.layers[0].weight") == "layers.0"


TEXT = """HloModule f
fused {
  a = f32[2,4] parameter(0)
  ROOT b = f32[2,4] multiply(a, a)
}
ENTRY main {
  x = f32[2,3] parameter(0)
  w = f32[3,4] parameter(1)
  y = f32[2,4] dot(x, w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  z = f32[2,4] fusion(y), kind=kLoop, calls=fused, metadata={op_name="jit(f)/act/mul"}
  lone = f32[2,3] add(x, x)
  ROOT t = (f32[2,4], f32[2,3]) tuple(z, lone)
}
"""


def test_a_saved_text_has_layers_by_fusion_and_by_users() -> None:
    found = cost.hlo(TEXT)
    told = {r.name: (r.path, r.provenance, r.flops) for r in found.rows}
    assert told["y"] == ("act", "users", 48)
    assert told["b"] == ("act", "fusion", 8)
    assert told["lone"] == ("", "none", 6)
    assert found.attributed == pytest.approx(56 / 62)
    assert found.by_layer()["act"].inferred == 1


def test_results_that_are_gradients_tell_their_layer() -> None:
    from jconv.cost.hlo import read

    module = parse(TEXT.replace('op_name="jit(f)/act/mul"', 'op_name="jit(f)/conv1/mul"'))
    told = {r.name: (r.path, r.provenance) for r in read(module, outputs=["", "params.conv1"]).rows}
    assert told["lone"] == ("conv1", "users")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected text that has a line `HloModule name"),
        ("HloModule f\n", "a computation that begins with ENTRY, got none"),
        (TEXT[:200], "is not closed: expected a line `}`"),
        (TEXT.replace("dot(x, w)", "dot x, w"), r"line 9: expected `name = shape opcode\(operands\)`, got 'y = "),
        (TEXT.replace("calls=fused", "calls=gone"), "z calls the computation gone, which is not there"),
        (TEXT.replace("dot(x, w)", "dot(x, v)"), "y takes v, which computation main does not have"),
    ],
)
def test_malformed_text_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^hlo: .*{message}"):
        cost.hlo(text)


def test_a_function_that_does_not_trace_is_said() -> None:
    with pytest.raises(ValueError, match="fn: expected a function that JAX can trace"):
        cost.xla(looped, spec(2), "cat")


def test_a_wrong_attribution_is_noticed() -> None:
    found = compared("train")
    moved = tuple(r._replace(path="conv1") for r in found.xla.compiled.rows)
    wrong = compare_found(found.result, found.xla._replace(compiled=found.xla.compiled._replace(rows=moved)))
    assert wrong.layers != found.layers
    assert any("moved between layers" in reason for layer in wrong.layers for reason in layer.reasons)


PROGRAMS: dict[str, tuple[Callable, tuple]] = {
    "elementwise": (lambda x: jnp.where(x > 0, jnp.exp(x), jnp.log1p(x)) ** 3 + x.astype("int32"), (spec(4, 6),)),
    "reductions": (lambda x: (x.sum(0), x.max(), jnp.argmax(x, 1), jnp.cumsum(x, 1)), (spec(4, 6),)),
    "pool and gradient": (
        jax.value_and_grad(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME").sum()),
        (spec(2, 8, 8, 3),),
    ),
    "gather and scatter": (lambda x, i: x.at[i].add(x[i] * 2), (spec(6, 4), spec(3, dtype="int32"))),
    "transposed": (lambda x, k: lax.conv_transpose(x, k, (2, 2), "SAME"), (spec(2, 5, 5, 3), spec(3, 3, 3, 4))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_small_programs_cost_what_xla_says(name: str) -> None:
    fn, args = PROGRAMS[name]
    with jax.numpy_dtype_promotion("standard"):
        found = cost.xla(fn, *args)
    for rows, total in ((found.lowered, found.lowered_total), (found.compiled, found.compiled_total)):
        assert total is not None
        assert rows.flops == pytest.approx(total.flops, rel=1e-6)
        assert rows.transcendentals == pytest.approx(total.transcendentals, rel=1e-6)
