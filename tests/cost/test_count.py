"""The count: published integers, sums, phases, control flow against its unrolled self, what has no rule."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jconv
from jconv import cost
from jconv.cost.phases import path_of
from jconv.cost.rules import RULES
from jconv.cost.trace import _elements, _sweep
from tests.catalogue import lax_conv

# Dense and valid multiply-adds at 224 px and 1000 classes; torchvision's metadata and timm's tables have the dense.
PUBLISHED: dict[str, tuple[int, int | None]] = {
    "resnet18": (1_814_073_344, 1_680_390_912),
    "resnet18c": (2_053_713_920, 1_917_650_016),
    "resnet34": (3_663_761_408, 3_374_922_496),
    "resnet50": (4_089_184_256, 3_948_251_904),
    "resnet50_v1": (3_857_973_248, 3_698_805_504),
    "resnet50c": (4_328_824_832, 4_185_511_008),
    "resnet50d": (4_328_824_832, 4_185_511_008),
    "resnet50t": (4_297_213_952, 4_154_259_272),
    "resnet50s": (5_444_337_664, 5_288_609_984),
    "resnet101": (7_801_405_440, 7_477_758_720),
    "resnet101d": (8_041_046_016, 7_715_017_824),
    "resnet152": (11_513_626_624, 11_028_499_200),
    "resnet152d": (11_753_267_200, 11_265_758_304),
    "seresnet50": (4_091_699_200, None),
    "resnext50_32x4d": (4_230_479_872, 4_211_288_832),
    "resnext101_32x8d": (16_414_015_488, None),
    "wide_resnet50_2": (11_398_021_120, None),
    "wide_resnet101_2": (22_753_050_624, None),
}


def spec(*shape: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


@cache
def network(name: str, size: int = 224, batch: int = 1) -> tuple[Any, tuple]:
    """A network of the zoo and what its apply takes, in shapes."""
    net, x = jconv.models.create(name, lowering="lax"), spec(batch, size, size, 3)
    return net, (*jax.eval_shape(net.init, jax.random.key(0), x), x)


@cache
def step(name: str = "resnet18", size: int = 64) -> cost.Result:
    """What a training step of a network costs."""
    net, args = network(name, size, 2)
    return cost.analyze(partial(net.apply, train=True), *args, mode="train", has_aux=True)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_multiply_adds_exactly(name: str) -> None:
    net, args = network(name)
    result = cost.analyze(net.apply, *args)
    dense, valid = PUBLISHED[name]
    assert result.total.macs == dense
    assert valid is None or result.total.macs_valid == valid
    assert result.params == sum(p.size for p in jax.tree.leaves(args[0]))
    assert result.coverage.complete


@pytest.mark.parametrize("depth", [None, 1, 2, 3, 9])
def test_layers_sum_to_the_total(depth: int | None) -> None:
    result = step()
    layers = result.by_layer(depth)
    assert sum((layer.cost for layer in layers), cost.Cost()) == result.total
    assert sum(layer.params for layer in layers) == result.params
    assert sum(layer.saved_bytes for layer in layers) == result.saved_bytes
    assert sum(layer.share for layer in layers) == pytest.approx(1)
    for view in (result.by_phase(), result.by_primitive(), {layer.path: layer.cost for layer in result.by_stage()}):
        assert sum(view.values(), cost.Cost()) == result.total


def test_a_layer_is_the_sum_of_what_is_inside() -> None:
    result = step()
    block = result.layer("layer2.0")
    inside = [layer for layer in result.by_layer() if f"{layer.path}.".startswith("layer2.0.")]
    assert block.cost == sum((layer.cost for layer in inside), cost.Cost())
    assert block.cost == next(layer for layer in result.by_layer(2) if layer.path == "layer2.0").cost
    with pytest.raises(ValueError, match=r"no layer 'layer2.0.conv' .* did you mean 'layer2.0.conv"):
        result.layer("layer2.0.conv")
    with pytest.raises(ValueError, match="depth: expected None or at least 1, got 0"):
        result.by_layer(0)


def test_a_training_step_of_a_resnet_has_no_unknown_primitive() -> None:
    result = step("resnet50")
    assert result.coverage.complete
    assert result.coverage.known == result.coverage.ops > 3000


def test_phases_of_a_training_step() -> None:
    result = step()
    phases = result.by_phase()
    first = result.layer("conv1").phases
    assert list(phases) == ["forward", "backward input", "backward kernel"]
    assert phases["backward kernel"].macs == phases["forward"].macs
    assert phases["backward input"].macs == phases["forward"].macs - first["forward"].macs, "x needs no gradient"
    for layer in result.by_layer():
        if layer.cost.macs and layer.path != "conv1":
            assert len({(c.macs, c.macs_valid) for c in layer.phases.values()}) == 1


@pytest.mark.parametrize("seed", range(6))
def test_jconvs_own_convolution_counts_as_that_of_lax(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank, groups = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    stride, dilation, kernel = (rng.integers(1, 4, rank).tolist() for _ in range(3))
    x = spec(int(rng.integers(1, 4)), *rng.integers(8, 12, rank).tolist(), 2 * groups)
    k = spec(*kernel, 2, 3 * groups)
    padding = rng.integers(0, 3, (rank, 2)).tolist()
    options = {"stride": stride, "dilation": dilation, "groups": groups, "padding": padding}
    for mode, wrt in (("forward", None), ("train", (1, 0))):
        own, lax_ = (cost.analyze(partial(f, **options), x, k, mode=mode, wrt=wrt) for f in (jconv.conv, lax_conv))
        essence_of = [{p: (c.macs, c.macs_valid) for p, c in r.by_phase().items()} for r in (own, lax_)]
        assert essence_of[0] == essence_of[1]
        assert len(essence_of[0]) == (1 if mode == "forward" else 3)
        assert own.coverage.complete
        assert "jconv_conv" in own.by_primitive()
        assert own.rows[0].window == lax_.rows[0].window


def test_a_transposed_convolution_is_the_gradient_of_a_convolution() -> None:
    x, k = spec(2, 5, 6, 4), spec(3, 3, 8, 4)
    f = partial(jconv.ops.conv_transpose, stride=2, padding=1)
    result = cost.analyze(f, x, k, mode="train", wrt=(1, 0))
    phases = result.by_phase()
    assert list(phases) == ["forward", "backward input", "backward kernel"]
    assert {c.macs for c in phases.values()} == {2 * 30 * 9 * 32}, "every input once with every tap"
    assert len({c.macs_valid for c in phases.values()}) == 1


def test_stages_as_the_forum_asked() -> None:
    net, args = network("resnet50")
    shares = {s.path: 100 * s.share for s in cost.analyze(net.apply, *args).by_stage()}
    assert list(shares) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    macs = {"stem": 2.9, "layer1": 16.3, "layer2": 25.1, "layer3": 35.8, "layer4": 19.8, "head": 0.1}
    assert shares == pytest.approx(macs, abs=0.06)


# Control flow: against the same thing written out

X, W = spec(3, 5), spec(4, 5, 5)


def layer(x: jax.Array, w: jax.Array) -> jax.Array:
    with jax.named_scope("dense"):
        return jnp.tanh(x @ w) * 0.5


def unrolled(w: jax.Array, x: jax.Array) -> jax.Array:
    for i in range(w.shape[0]):
        x = layer(x, w[i])
    return x


def scanned(w: jax.Array, x: jax.Array) -> jax.Array:
    return lax.scan(lambda x, w: (layer(x, w), None), x, w)[0]


def looped(w: jax.Array, x: jax.Array) -> jax.Array:
    return lax.while_loop(
        lambda c: c[0] < w.shape[0], lambda c: (c[0] + 1, layer(c[1], w[c[0]])), (jnp.int32(0), x)
    )[1]  # fmt: skip


def called(w: jax.Array, x: jax.Array) -> jax.Array:
    return jax.jit(jax.jit(unrolled))(w, x)


@jax.custom_jvp
def with_jvp(w: jax.Array, x: jax.Array) -> jax.Array:
    return unrolled(w, x)


with_jvp.defjvp(lambda p, t: jax.jvp(unrolled, p, t))


@jax.custom_vjp
def with_vjp(w: jax.Array, x: jax.Array) -> jax.Array:
    return unrolled(w, x)


with_vjp.defvjp(lambda w, x: jax.vjp(unrolled, w, x), lambda pull, g: pull(g))

SAME: dict[str, Callable] = {
    "scan": scanned,
    "jit in jit": called,
    "checkpoint": jax.checkpoint(unrolled),
    "custom_jvp": with_jvp,
    "custom_vjp": with_vjp,
    "while": looped,
    "switch on a constant": lambda w, x: lax.platform_dependent(w, x, cpu=unrolled, default=lambda w, x: x),
}


def essence(result: cost.Result, phases: bool = True) -> Any:
    """What must not change when a program is only written differently."""

    def of(c: cost.Cost) -> tuple[int, int]:
        return c.macs, c.transcendentals

    return {k: of(c) for k, c in result.by_phase().items()} if phases else of(result.total)


@pytest.mark.parametrize("name", SAME)
def test_control_flow_costs_what_its_unrolled_self_costs(name: str) -> None:
    assert essence(cost.analyze(SAME[name], W, X)) == essence(cost.analyze(unrolled, W, X))
    assert cost.analyze(SAME[name], W, X).layer("dense").cost.macs == 4 * 3 * 5 * 5


@pytest.mark.parametrize("name", ["scan", "jit in jit", "custom_jvp", "custom_vjp"])
def test_gradients_of_control_flow_cost_what_those_of_its_unrolled_self_cost(name: str) -> None:
    both = {"mode": "train", "wrt": (0, 1)}  # a scan's first iteration does not know that x needs no gradient
    assert essence(cost.analyze(SAME[name], W, X, **both)) == essence(cost.analyze(unrolled, W, X, **both))


def test_random_loops_multiply(rng: np.random.Generator) -> None:
    for _ in range(10):
        outer, inner, n = (int(i) for i in rng.integers(1, 6, 3))

        def f(x: jax.Array, outer: int = outer, inner: int = inner) -> jax.Array:
            def body(x: jax.Array, _: None) -> tuple[jax.Array, None]:
                return lax.fori_loop(0, inner, lambda i, x: x * x, x), None

            return lax.scan(body, x, None, length=outer)[0]

        rows = cost.analyze(f, spec(n)).by_primitive()
        assert rows["mul"].flops == outer * inner * n


def test_recomputation_is_a_phase_of_its_own() -> None:
    again = cost.analyze(jax.checkpoint(unrolled), W, X, mode="train")
    plain = cost.analyze(unrolled, W, X, mode="train")
    phases = again.by_phase()
    assert list(phases) == ["forward", "recompute", "backward input", "backward kernel"]
    assert phases["recompute"].macs == phases["forward"].macs == plain.by_phase()["forward"].macs
    assert phases["backward kernel"].macs == plain.by_phase()["backward kernel"].macs
    assert again.saved_bytes < plain.saved_bytes
    assert {row.path for row in again.rows if row.cost.macs} == {"dense"}


def test_the_optimiser_is_a_phase_of_its_own() -> None:
    def train(w: jax.Array, m: jax.Array, x: jax.Array) -> Any:
        g = jax.grad(lambda w: unrolled(w, x).sum())(w)
        m = 0.9 * m + g
        return w - 0.1 * m, m

    phases = cost.analyze(train, W, W, X).by_phase()
    assert phases["optimiser"].flops == 4 * 100
    assert phases["backward kernel"].macs == phases["forward"].macs


def test_a_vmapped_function_costs_its_batch() -> None:
    one, many = cost.analyze(unrolled, W, X), cost.analyze(jax.vmap(unrolled, (None, 0)), W, spec(7, 3, 5))
    assert many.total.macs == 7 * one.total.macs
    assert many.total.transcendentals == 7 * one.total.transcendentals


def test_a_while_loop_counts_once_and_says_so_unless_told() -> None:
    def f(x: jax.Array) -> jax.Array:
        with jax.named_scope("search"):
            return lax.while_loop(lambda x: x.sum() > 0, lambda x: x * x, x)

    result = cost.analyze(f, spec(8))
    (loop,) = result.coverage.loops
    assert (loop.path, result.by_primitive()["mul"].flops) == ("search", 8)
    assert "test_count.py" in loop.where
    assert not result.coverage.complete
    for trips in (5, {"search": 5}):
        told = cost.analyze(f, spec(8), trips=trips)
        assert told.by_primitive()["mul"].flops == 5 * 8
        assert told.by_primitive()["reduce_sum"].flops == 6 * 7, "the condition is looked at once more"
        assert told.coverage.complete


def test_a_conditional_counts_its_most_expensive_branch_and_has_a_range() -> None:
    def f(p: jax.Array, x: jax.Array) -> jax.Array:
        return lax.switch(p, [lambda x: x @ x, lambda x: x + x, lambda x: x], x)

    result = cost.analyze(f, spec(dtype="int32"), spec(4, 4))
    assert result.total.macs == 64
    (branch,) = result.coverage.branches
    assert "FLOPs 128 | 16 | 0" in branch.why
    assert result.least.macs == 0
    assert result.total.flops - result.least.flops == 128
    inside = cost.analyze(
        lambda p, x: lax.scan(lambda x, _: (f(p, x), None), x, length=3)[0], *((spec(dtype="int32"), spec(4, 4)))
    )
    assert (inside.total.macs, inside.least.macs) == (3 * 64, 0)


def test_code_for_another_platform_is_not_counted() -> None:
    def f(x: jax.Array) -> jax.Array:
        return lax.platform_dependent(x, cpu=lambda x: x @ x, cuda=lambda x: x @ x @ x, default=lambda x: x)

    found = {p: cost.analyze(f, spec(4, 4), platform=p).total.macs for p in ("cpu", "cuda", "tpu")}
    assert found == {"cpu": 64, "cuda": 128, "tpu": 0}
    assert not cost.analyze(f, spec(4, 4)).coverage.branches


def test_a_shard_map_costs_all_devices() -> None:
    mesh = jax.sharding.AbstractMesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    p = jax.sharding.PartitionSpec
    f = jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=(p("d"), p()), out_specs=p("d"))
    assert cost.analyze(jax.jit(f), spec(8, 5), spec(5, 6)).total.macs == 8 * 5 * 6


def test_a_pallas_kernel_costs_its_body_times_the_grid() -> None:
    pl = pytest.importorskip("jax.experimental.pallas")

    def kernel(x: Any, o: Any) -> None:
        o[...] = jnp.exp(x[...]) * 2

    block = pl.BlockSpec((2, 8), lambda i: (i, 0))
    call = pl.pallas_call(kernel, out_shape=spec(8, 8), grid=(4,), in_specs=[block], out_specs=block)
    result = cost.analyze(call, spec(8, 8))
    assert (result.total.flops, result.total.transcendentals) == (64, 64)
    assert result.total.bytes_moved == 2 * 8 * 8 * 4, "a kernel reads and writes once"
    assert result.coverage.complete


def test_a_thousand_layers_are_walked_once() -> None:
    result = cost.analyze(scanned, spec(1000, 5, 5), X, mode="train")
    assert result.total.macs == 3 * 1000 * 3 * 5 * 5
    assert len(result.rows) < 30


def test_dead_code_is_not_counted() -> None:
    def f(x: jax.Array) -> jax.Array:
        unused = x @ x
        del unused
        return x + 1

    assert cost.analyze(f, spec(4, 4)).total.macs == 0
    assert cost.analyze(jax.jit(f), spec(4, 4)).total.macs == 0
    jaxpr = jax.make_jaxpr(f)(spec(4, 4)).jaxpr
    assert [e.primitive.name for e in _sweep(jaxpr).eqns] == ["add"]


# What has no rule


def test_a_primitive_without_a_rule_is_listed_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: jax.Array) -> jax.Array:
        with jax.named_scope("odd"):
            return jnp.tanh(x)

    assert cost.analyze(f, spec(6)).coverage.complete
    monkeypatch.delitem(RULES, "tanh")
    result = cost.analyze(lambda x: lax.scan(lambda x, _: (f(x), None), x, length=3)[0], spec(6))
    (unknown,) = result.coverage.unknown
    assert unknown[:3] == ("tanh", "odd", 3)
    assert "test_count.py" in unknown.where
    assert not result.coverage.complete
    assert result.total.transcendentals == 0
    monkeypatch.setitem(RULES, "tanh", RULES["exp"])  # and back, as a user does

    @cost.register("tanh")
    def tanh(op: Any) -> cost.Work:
        return cost.Work(flops=7 * op.outputs[0].size)

    assert cost.analyze(f, spec(6)).total.flops == 42


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: jnp.sort(x) + jnp.cumsum(x) + jnp.argmax(x),
        lambda x: jnp.abs(jnp.fft.fft(x)) + jnp.abs(jnp.fft.rfft(x)).sum(),
        lambda x: lax.top_k(x, 3)[0],
        lambda x: jax.random.normal(jax.random.key(0), x.shape) + x,
        lambda x: jnp.linalg.cholesky(jnp.outer(x, x)) @ x,
        lambda x: x[jnp.array([1, 2])] + x.at[0].set(1.0)[:2],
        lambda x: x.astype("bfloat16").astype("float32"),
        lambda x: jax.image.resize(x.reshape(2, 4), (4, 8), "linear"),
    ],
    ids=["sort", "fft", "top_k", "random", "cholesky", "gather and scatter", "casts", "resize"],
)
def test_families_have_rules(fn: Callable) -> None:
    with jax.numpy_dtype_promotion("standard"):
        assert cost.analyze(fn, spec(8)).coverage.complete


def test_gathers_move_what_they_touch() -> None:
    row = cost.analyze(lambda t, i: t[i], spec(1000, 8), spec(3, dtype="int32")).by_primitive()["gather"]
    assert row.bytes_read == 4 * (3 * 8 + 3)


# Names


def test_paths_of_name_stacks() -> None:
    t, s = "transform", "scope"
    assert path_of(((t, "transpose"), (t, "jvp"), (s, "layer1"), (s, "0"))) == "layer1.0"
    assert path_of(((s, "step"), (t, "jvp"), (s, "a"), (t, "vmap"), (s, "b"))) == "step.a.b"
    again = ((t, "transpose"), (t, "jvp"), (s, "a"), (t, "jvp"), (s, "a"), (s, "rematted_computation"), (s, "b"))
    assert path_of(again) == "a.b", "jax.checkpoint writes the scopes around it twice"


def test_a_name_stack_can_be_read_from_its_text() -> None:
    class Text:
        def __str__(self) -> str:
            return "transpose(jvp(layer1))/0/vmap(conv)"

    expected = (("transform", "transpose"), ("transform", "jvp"), ("scope", "layer1"), ("scope", "0"))
    assert _elements(Text()) == (*expected, ("transform", "vmap"), ("scope", "conv"))


# Bad input


def test_mistakes_are_said() -> None:
    with pytest.raises(ValueError, match="mode: expected 'forward' or 'train', got 'backward'"):
        cost.analyze(unrolled, W, X, mode="backward")
    with pytest.raises(ValueError, match="wrt: expected numbers of the 2 arguments, got 2"):
        cost.analyze(unrolled, W, X, mode="train", wrt=2)
    with pytest.raises(ValueError, match=r"fn: expected a function that JAX can trace .* unrolled raised TypeError"):
        cost.analyze(unrolled, W, "cat")
    with pytest.raises(ValueError, match=r"has_aux: expected fn to return a pair"):
        cost.analyze(unrolled, W, X, mode="train", has_aux=True)


def test_a_result_comes_back_from_json() -> None:
    import json

    result = step()
    assert type(result).from_dict(json.loads(result.to_json())) == result
    assert cost.diff(result, type(result).from_dict(result.to_dict())) == {}
    with pytest.raises(ValueError, match=r"expected what Result\.to_dict"):
        type(result).from_dict({"rows": 3})
