"""The laboratory's figures: foreign networks against XLA, attribution, speed, memory, what dominates where.

python -m benchmarks.cost            # writes benchmarks/cost.md
python -m benchmarks.cost foreign    # one section, printed: foreign, attribution, speed, memory, stages or picture
"""

import functools
import importlib
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp

import jconv
from benchmarks.report import machine, table
from jconv import cost
from jconv.cost.hlo import Hlo, read
from jconv.cost.hlo_text import parse

Program = tuple[Callable, tuple]
CASTS = ("convert_element_type",)
IMAGE = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)


def shapes(tree: Any) -> Any:
    """What the analysis needs of arrays."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def network(name: str, size: int = 224, batch: int = 1, lowering: str = "lax") -> Program:
    """A training pass of one of jconv's networks, and its arguments."""
    net, x = jconv.models.create(name, lowering=lowering), jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    args = (*jax.eval_shape(net.init, jax.random.key(0), x), x)
    return functools.partial(net.apply, train=True), args


def step_of(loss: Callable, params: Any, *rest: Any) -> Program:
    """A train step of optax's Adam."""
    import optax

    adam = optax.adam(1e-3)

    def step(params: Any, state: Any, *rest: Any) -> Any:
        gradients = jax.grad(loss)(params, *rest)
        updates, state = adam.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return step, (params, jax.eval_shape(adam.init, params), *rest)


def haiku_net(name: str) -> Iterator[tuple[str, Program]]:
    """A network of haiku's own zoo: inference, and a train step."""
    hk: Any = importlib.import_module("haiku")
    make = functools.partial(getattr(hk.nets, name), num_classes=1000)
    net = hk.transform_with_state(lambda x, train: make()(x, is_training=train))
    params, state = jax.eval_shape(functools.partial(net.init, train=True), jax.random.key(0), IMAGE)

    def forward(params: Any, state: Any, x: jax.Array) -> jax.Array:
        return net.apply(params, state, None, x, train=False)[0]

    def loss(params: Any, state: Any, x: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(net.apply(params, state, None, x, train=True)[0])[:, 0].mean()

    yield f"haiku {name}", (forward, (params, state, IMAGE))
    yield f"haiku {name}, optax step", step_of(loss, params, state, IMAGE)


def keras_net(name: str) -> Iterator[tuple[str, Program]]:
    """A network of keras.applications on the JAX backend."""
    keras: Any = importlib.import_module("keras")
    net = getattr(keras.applications, name)(weights=None)

    def forward(params: Any, others: Any, x: jax.Array) -> jax.Array:
        return net.stateless_call(params, others, x, training=False)[0]

    def loss(params: Any, others: Any, x: jax.Array) -> jax.Array:
        return jnp.log(net.stateless_call(params, others, x, training=True)[0])[:, 0].mean()

    params, others = ([shapes(v.value) for v in vs] for vs in (net.trainable_variables, net.non_trainable_variables))
    yield f"keras {name}", (forward, (params, others, IMAGE))
    yield f"keras {name}, optax step", step_of(loss, params, others, IMAGE)


def linen_transformer() -> Iterator[tuple[str, Program]]:
    """Four blocks of flax's attention and dense layers."""
    from flax import linen as nn

    class Transformer(nn.Module):
        @nn.compact
        def __call__(self, tokens: jax.Array) -> jax.Array:
            x = nn.Embed(1000, 128)(tokens)
            for _ in range(4):
                x = x + nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x))
                x = x + nn.Dense(128)(nn.gelu(nn.Dense(512)(nn.LayerNorm()(x))))
            return nn.Dense(1000)(nn.LayerNorm()(x))

    net, tokens = Transformer(), jax.ShapeDtypeStruct((2, 64), jnp.int32)
    params = jax.eval_shape(net.init, jax.random.key(0), tokens)

    def loss(params: Any, tokens: jax.Array) -> jax.Array:
        logits: Any = net.apply(params, tokens)
        return jax.nn.log_softmax(logits)[..., 0].mean()

    yield "linen transformer", (net.apply, (params, tokens))
    yield "linen transformer, optax step", step_of(loss, params, tokens)


def equinox_attention() -> Iterator[tuple[str, Program]]:
    """Equinox's attention and MLP over a batch."""
    eqx: Any = importlib.import_module("equinox")
    attention = eqx.nn.MultiheadAttention(4, 128, key=jax.random.key(0))
    mlp = eqx.nn.MLP(128, 128, 512, 1, key=jax.random.key(1))
    params, static = eqx.partition((attention, mlp), eqx.is_array)

    def forward(params: Any, x: jax.Array) -> jax.Array:
        attention, mlp = eqx.combine(params, static)
        return jax.vmap(lambda x: jax.vmap(mlp)(x + attention(x, x, x)))(x)

    params, x = shapes(params), jax.ShapeDtypeStruct((2, 64, 128), jnp.float32)
    yield "equinox attention and MLP", (forward, (params, x))
    yield "equinox attention and MLP, optax step", step_of(lambda p, x: forward(p, x).mean(), params, x)


def programs() -> Iterator[tuple[str, Program]]:
    """Code that nobody here wrote, of the frameworks that are installed."""
    sources = [
        functools.partial(haiku_net, "ResNet50"), functools.partial(haiku_net, "MobileNetV1"),
        functools.partial(keras_net, "ResNet50"), functools.partial(keras_net, "MobileNetV2"),
        linen_transformer, equinox_attention,
    ]  # fmt: skip
    for source in sources:
        try:
            yield from source()
        except ImportError as error:
            print(f"left out: {error}", file=sys.stderr)


def lowered(fn: Callable, args: tuple) -> tuple[Hlo, float]:
    """The instructions that JAX lowers to, and XLA's own total."""
    low = jax.jit(fn).lower(*args)
    total = low.cost_analysis()
    total = total[0] if isinstance(total, list) else total
    return read(parse(low.as_text("hlo", debug_info=True))), float(total["flops"]) if total else 0.0


def foreign() -> str:
    """Totals against XLA's count of the lowered program; the correction is casts, and loops that XLA counts once."""
    rows = []
    for name, (fn, args) in programs():
        ours = cost.analyze(fn, *args)
        theirs, total = lowered(fn, args)
        casts = sum(r.flops * r.times for r in theirs.rows if r.primitive in CASTS)
        off = ours.total.flops / (theirs.executed - casts) - 1
        unknown = len(ours.coverage.unknown)
        rows.append([name, *(f"{n:,.0f}" for n in (ours.total.macs, ours.total.flops, total, casts)),
                     f"{100 * off:+.3f} %", str(unknown)])  # fmt: skip
    head = ["program", "MACs", "FLOPs", "XLA lowered", "of them casts", "difference without", "unknown"]
    return table(head, rows)


def attribution() -> str:
    """A ResNet-50's training pass, compiled: whose FLOPs have a layer, and by what."""
    fn, args = network("resnet50", 64, 2)
    found = cost.compare(fn, *args, mode="train", has_aux=True)
    compiled = found.xla.compiled
    convs = [layer.path for layer in found.result.by_layer() if layer.scope.window and layer.cost.macs]
    products = {p: sum(2 * r.cost.macs_valid for r in found.result.rows if r.path == p) for p in convs}
    theirs = {
        p: sum(r.flops for r in compiled.rows if r.path == p and r.opcode in ("convolution", "dot")) for p in convs
    }
    equal = sum(products[p] == theirs[p] for p in convs)
    shares = [f"{name} {100 * n / compiled.flops:.1f} %" for name, n in compiled.by_provenance().items()]
    return "\n".join([
        f"{100 * compiled.attributed:.2f} % of {compiled.flops:,} FLOPs have a layer: {', '.join(shares)}.",
        f"{equal} of {len(convs)} layers with convolutions or products have exactly the FLOPs that are counted.",
        f"Counted {found.total.analytic:,}, lowered {found.total.lowered:,}, compiled {found.total.compiled:,}.",
    ])  # fmt: skip


def seconds(run: Callable[[], Any], repeats: int = 3) -> float:
    """The least of a few runs."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def nnx_resnet50() -> Any:
    """A ResNet-50 in flax's NNX, layer for layer jconv's own."""
    from flax import nnx

    rngs = nnx.Rngs(0)

    def conv(channels: int, features: int, kernel: int, stride: int = 1) -> Any:
        return nnx.Conv(
            channels, features, (kernel, kernel), stride, padding=kernel // 2, use_bias=False, rngs=rngs
        )  # fmt: skip

    def norm(features: int) -> Any:
        return nnx.BatchNorm(features, rngs=rngs)

    class Block(nnx.Module):
        def __init__(self, channels: int, features: int, stride: int):
            self.conv1, self.bn1 = conv(channels, features, 1), norm(features)
            self.conv2, self.bn2 = conv(features, features, 3, stride), norm(features)
            self.conv3, self.bn3 = conv(features, 4 * features, 1), norm(4 * features)
            if channels != 4 * features:
                self.shortcut, self.bn = conv(channels, 4 * features, 1, stride), norm(4 * features)

        def __call__(self, x: jax.Array) -> jax.Array:
            y = nnx.relu(self.bn1(self.conv1(x)))
            y = self.bn3(self.conv3(nnx.relu(self.bn2(self.conv2(y)))))
            return nnx.relu(y + (self.bn(self.shortcut(x)) if hasattr(self, "shortcut") else x))

    class ResNet(nnx.Module):
        def __init__(self):
            self.conv1, self.bn1, blocks, channels = conv(3, 64, 7, 2), norm(64), [], 64
            for stage, count in enumerate((3, 4, 6, 3)):
                for i in range(count):
                    blocks.append(Block(channels, 64 * 2**stage, 2 if stage and not i else 1))
                    channels = 256 * 2**stage
            self.blocks, self.fc = nnx.List(blocks), nnx.Linear(channels, 1000, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            pads: Any = ((1, 1), (1, 1))
            x = nnx.max_pool(nnx.relu(self.bn1(self.conv1(x))), (3, 3), (2, 2), pads)
            for block in self.blocks:
                x = block(x)
            return self.fc(x.mean((1, 2)))

    return ResNet()


def against_tabulate(size: int = 64) -> str:
    """The same NNX model and input, to a printed table, by flax and here."""
    from flax import nnx

    model, x = nnx_resnet50(), jnp.zeros((1, size, size, 3))
    rows: list[Any] = []
    results: list[cost.Result] = []

    def theirs() -> str:
        rows.clear()
        keep: Callable[[Any], bool] = lambda row: not rows.append(row)  # noqa: E731
        return nnx.tabulate(model, x, compute_flops=True, compute_vjp_flops=True, row_filter=keep)

    def ours() -> str:
        graph, params = nnx.split(cost.scopes(model))
        fn = lambda params, x: nnx.merge(graph, params)(x)  # noqa: E731
        results.append(cost.analyze(fn, params, x, mode="train"))
        return cost.report(results[-1])

    def counted() -> None:
        graph, params = nnx.split(cost.scopes(model))
        cost.analyze(lambda params, x: nnx.merge(graph, params)(x), params, x, mode="train")

    def traced() -> None:
        graph, params = nnx.split(cost.scopes(model))

        def both(params: Any, x: jax.Array) -> Any:
            y, back = jax.vjp(lambda params: nnx.merge(graph, params)(x), params)
            return y, back(y)

        jax.make_jaxpr(both)(params, x)

    analysis, took, tracing = seconds(counted), seconds(ours), seconds(traced)
    of_flax = seconds(theirs, repeats=2)
    layers = sum(len(layer.phases) for layer in results[-1].by_layer())
    equations = len(results[-1].rows)
    found = [("nnx.tabulate: a call of a module", of_flax, len(rows)),
             ("jconv.cost, with its table: a phase of a layer", took, layers),
             ("jconv.cost, the analysis: an equation", analysis, equations)]  # fmt: skip
    made = table(
        [f"ResNet-50 in NNX, {size} px; a row is", "seconds", "rows", "times as fast", "times the rows"],
        [[name, f"{s:.2f}", f"{n:,}", f"{of_flax / s:.1f}", f"{n / len(rows):.1f}"] for name, s, n in found],
    )
    return f"{made}\n\nOf an analysis `jax.make_jaxpr` takes {tracing:.2f} s: JAX and Flax tracing the gradient."


def speed() -> str:
    """How long an analysis takes; and beside `nnx.tabulate(compute_flops=True, compute_vjp_flops=True)`."""
    fn, args = network("resnet50")
    rows = [["ResNet-50 in training, 224 px",
             f"{seconds(lambda: cost.analyze(fn, *args, mode='train', has_aux=True)):.2f}"]]  # fmt: skip

    def scanned(w: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    w, x = jax.ShapeDtypeStruct((1000, 64, 64), jnp.float32), jax.ShapeDtypeStruct((8, 64), jnp.float32)
    rows.append(["1,000 layers in a scan", f"{seconds(lambda: cost.analyze(scanned, w, x, mode='train')):.3f}"])
    return f"{table(['analysis', 'seconds'], rows)}\n\n{against_tabulate()}"


def memory() -> str:
    """The peak of a training pass as predicted from its jaxpr, and what XLA allots to arguments, outputs and the rest.

    jconv's own lowerings on a CPU work in chunks, whose buffers the jaxpr does not show.
    """
    rows = []
    for name, size, batch, lowering in (
        ("resnet18", 64, 32, "lax"), ("resnet50", 64, 32, "lax"), ("resnet18", 128, 16, "lax"),
        ("resnet50", 96, 16, "lax"), ("resnet34", 64, 16, "lax"), ("resnet18", 64, 32, "auto"),
    ):  # fmt: skip
        fn, args = network(name, size, batch, lowering)
        result = cost.analyze(fn, *args, mode="train", has_aux=True)
        predicted = cost.peak(fn, *args, mode="train", has_aux=True)
        held = cost.xla(fn, *args, mode="train", has_aux=True).memory
        if held is not None:
            sizes = (result.saved_bytes, predicted.temporary, held.temporary, predicted.bytes, held.peak)
            rows.append([f"{name}, {lowering}, {size} px, batch {batch}", *(f"{n / 1e6:,.1f}" for n in sizes),
                         f"{100 * (predicted.bytes / held.peak - 1):+.1f} %"])  # fmt: skip
    head = ["training pass, MB", "saved", "temporary, predicted", "XLA", "all, predicted", "XLA", "difference"]
    return table(head, rows)


def stages() -> str:
    """Shares of a ResNet-50's stages: the answer to whether most computation occurs in the early layers."""
    fn, args = network("resnet50")
    result = cost.analyze(fn, *args, mode="train", has_aux=True)
    forward = cost.analyze(fn, *args)
    found, macs = result.by_stage(), {s.path: s.share for s in forward.by_stage()}
    total = result.total
    rows = [
        [s.path, *(f"{100 * share:.1f}" for share in (
            macs[s.path], s.cost.bytes_moved / total.bytes_moved, s.scope.saved_bytes / result.saved_bytes,
            s.scope.params / result.params))]
        for s in found
    ]  # fmt: skip
    return table(["ResNet-50, %", "MACs", "bytes moved", "saved activations", "parameters"], rows)


def picture() -> str:
    """Which inputs move one output of stacks of 3×3 convolutions, measured by gradients, inside what it can see."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import patches
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
    for panel, depth in zip(panels, (4, 8, 16), strict=True):
        conv = functools.partial(jconv.layers.Conv, 8, 3, bias=False, lowering="lax")
        net = jconv.layers.Sequential(*(conv() for _ in range(depth)))
        x = jax.ShapeDtypeStruct((1, 49, 49, 3), jnp.float32)
        params, state = net.init(jax.random.key(0), x)
        apply = functools.partial(lambda net, p, s, x: net.apply(p, s, x)[0], net, params, state)
        found = cost.effective_receptive_field(apply, x.shape, key=jax.random.key(1))
        (size, _) = cost.receptive_field(apply, x)[""].size
        panel.imshow(found.map, cmap="magma")
        panel.add_patch(patches.Rectangle((24 - size / 2, 24 - size / 2), size, size, fill=False, color="white"))
        panel.set(title=f"{depth} layers: sees {size}, in effect {found.size:.1f}", xticks=[], yticks=[])
    path = Path(__file__).parent.parent / "docs" / "receptive_field.png"
    figure.savefig(path, dpi=110)
    return f"![The effective receptive field grows as the root of depth](../docs/{path.name})"


SECTIONS = {f.__name__: f for f in (foreign, attribution, speed, memory, stages, picture)}


def main() -> None:
    """Measure, and write or print."""
    if sys.argv[1:]:
        print(SECTIONS[sys.argv[1]]())
        return
    parts = [f"# The cost laboratory's figures\n\n`python -m benchmarks.cost` on {machine()}."]
    for name, section in SECTIONS.items():
        parts.append(f"## {name.capitalize()}\n\n{inspect.cleandoc(section.__doc__ or '')}\n\n{section()}")
        print(parts[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
