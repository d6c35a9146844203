"""Residual networks: published parameter counts and MACs, golden structures, and what every option changes."""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv import models
from jconv.layers import (
    Activation,
    AvgPool,
    BatchNorm,
    BlurPool,
    Conv,
    Dropout,
    DropPath,
    Identity,
    MaxPool,
    PadChannels,
    Residual,
    Sequential,
    SqueezeExcite,
)
from jconv.models import resnet
from jconv.models.resnet import DEPTHS, VARIANTS
from jconv.models.stems import STEMS
from tests import goldens
from tests.catalogue import fast_jit
from tests.models.parity import Agree, reference
from tests.models.shapes import abstract, count, maps

KEY = jax.random.key(0)


def sizes(net: models.Network, n: int) -> dict[str, tuple[int, int]]:
    """Size and features of each stage's output, and of what enters the first stage, for an n×n image."""
    params, state, x = abstract(net, 1, n, n, 3)
    last = "maxpool" if "maxpool" in net.children() else "act1"
    at = {"conv1": "conv1", "entry": last, **{f"layer{i}": f"layer{i}" for i in range(1, 5)}}
    taken, _ = jax.eval_shape(lambda *a: net.outputs(a[0], a[1], a[2], list(at.values())), params, state, x)
    return {name: (taken[path].shape[1], taken[path].shape[-1]) for name, path in at.items()}


# Published numbers: torchvision's metadata and timm's tables

PARAMETERS = {
    "resnet18": 11_689_512, "resnet18c": 11_708_744, "resnet18d": 11_708_744, "resnet34": 21_797_672,
    "resnet50": 25_557_032, "resnet50_v1": 25_557_032, "resnet50c": 25_576_264, "resnet50d": 25_576_264,
    "resnet50t": 25_573_728, "resnet50s": 25_680_808, "resnet101": 44_549_160, "resnet101d": 44_568_392,
    "resnet152": 60_192_808, "resnet152d": 60_212_040, "seresnet50": 28_088_024, "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336, "wide_resnet50_2": 68_883_240, "wide_resnet101_2": 126_886_696,
    "cifar_resnet20": 269_722, "cifar_resnet32": 464_154, "cifar_resnet44": 658_586, "cifar_resnet56": 853_018,
}  # fmt: skip
TEN_CLASSES = {"resnet18": 11_181_642, "resnet18c": 11_200_874, "resnet50": 23_528_522, "resnet50c": 23_547_754}
MACS = {
    "resnet18": 1_814_073_344, "resnet18d": 2_053_713_920, "resnet50": 4_089_184_256, "resnet50_v1": 3_857_973_248,
    "resnet50d": 4_328_824_832, "seresnet50": 4_091_699_200, "resnext50_32x4d": 4_230_479_872,
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    assert count(models.create(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", TEN_CLASSES)
def test_parameters_with_ten_classes(name: str) -> None:
    assert count(models.create(name, num_classes=10)) == TEN_CLASSES[name]


def macs(jaxpr) -> int:
    """Multiply-adds of convolutions and matrix products, every tap counted, as the tables do."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval.shape
            total += math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel[:-1])
        elif eqn.primitive.name == "dot_general":
            (over, _), _ = eqn.params["dimension_numbers"]
            lhs = eqn.invars[0].aval.shape
            total += math.prod(eqn.outvars[0].aval.shape) * math.prod(lhs[i] for i in over)
        total += sum(map(macs, subjaxprs(eqn.params.values())))
    return total


def subjaxprs(params) -> Iterator:
    for value in params:
        inner = getattr(value, "jaxpr", value)
        if hasattr(inner, "eqns"):
            yield inner


def test_multiply_adds_of_a_known_function() -> None:
    layout = ("NHWC", "HWIO", "NHWC")

    @jax.jit
    def f(x, kernel, matrix):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout)
        return y.sum((1, 2)) @ matrix

    shapes = [jax.ShapeDtypeStruct(s, "float32") for s in ((2, 5, 5, 3), (3, 3, 3, 7), (7, 11))]
    assert macs(jax.make_jaxpr(f)(*shapes).jaxpr) == 2 * 9 * 7 * 27 + 2 * 7 * 11


@pytest.mark.parametrize("name", MACS)
def test_multiply_adds_at_224(name: str) -> None:
    net = models.create(name, lowering="lax")
    assert macs(jax.make_jaxpr(net.apply)(*abstract(net, 1, 224, 224, 3)).jaxpr) == MACS[name]


# Structure


@pytest.mark.parametrize("name", goldens.NAMES)
def test_paths_and_shapes_are_the_golden_ones(name: str) -> None:
    """If this change is meant: `python -m tests.goldens`."""
    assert goldens.shapes(name) == goldens.read(name)


def test_another_structure_is_noticed() -> None:
    assert goldens.shapes("resnet18d") != goldens.read("resnet18")


def torchvision(depth: int) -> set[str]:
    """The names in a torchvision state dict, less its counters."""
    convs, blocks = {18: (2, (2, 2, 2, 2)), 50: (3, (3, 4, 6, 3))}[depth]
    pairs = {("conv1", "bn1")}
    for i, j in ((i, j) for i, blocks_in in enumerate(blocks, 1) for j in range(blocks_in)):
        pairs |= {(f"layer{i}.{j}.conv{k}", f"layer{i}.{j}.bn{k}") for k in range(1, convs + 1)}
        if j == 0 and (i > 1 or depth == 50):
            pairs.add((f"layer{i}.0.downsample.0", f"layer{i}.0.downsample.1"))
    norms = {f"{bn}.{part}" for _, bn in pairs for part in ("weight", "bias", "running_mean", "running_var")}
    return norms | {f"{conv}.weight" for conv, _ in pairs} | {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("depth", [18, 50])
def test_paths_are_torchvisions(depth: int) -> None:
    word = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    arrays = goldens.shapes(f"resnet{depth}")
    split = (path.rpartition(".") for group in arrays.values() for path in group)
    assert {f"{path}.{word[last]}" for path, _, last in split} == torchvision(depth)


def test_paths_of_deep_stems_excitation_and_average_shortcuts_are_timms() -> None:
    paths = set(goldens.read("resnet50d")["params"])
    assert {"conv1.0.kernel", "conv1.1.scale", "conv1.3.kernel", "conv1.4.scale", "conv1.6.kernel", "bn1.scale"} < paths
    assert {"layer2.0.downsample.1.kernel", "layer2.0.downsample.2.scale"} < paths
    excited = set(goldens.read("seresnet50")["params"])
    assert {f"layer1.0.se.fc{i}.{part}" for i in (1, 2) for part in ("kernel", "bias")} < excited


DEEP = ("101", "110", "152", "200")


@pytest.mark.parametrize("name", [name for name in VARIANTS if not any(depth in name for depth in DEEP)])
def test_named_models_run(name: str) -> None:
    net = models.create(name)
    params, state, x = abstract(net, 2, 32, 32, 3)
    y, after = jax.eval_shape(net.apply, params, state, x)
    assert y.shape == (2, 10 if name.startswith("cifar") else 1000)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_list_and_create() -> None:
    assert models.list("resnet50?") == ["resnet50c", "resnet50d", "resnet50s", "resnet50e", "resnet50t"]
    assert len(set(models.list())) == len(models.list())
    assert models.create("resnet34", stem="t") == resnet(34, stem="t")
    nets = [models.create(name) for name in VARIANTS]
    assert len(set(nets)) == len(nets)


# Stems

CONVOLUTION_OF_32 = {
    "a": 16, "c": 16, "s": 16, "t": 16, "5x5": 16, "2x2": 16, "patch": 8, "cifar": 32,
}  # fmt: skip


def test_every_stem_is_tested() -> None:
    assert STEMS.keys() == CONVOLUTION_OF_32.keys()


@pytest.mark.parametrize("stem", STEMS)
def test_sizes_after_a_stem(stem: str) -> None:
    found = sizes(resnet(18, stem=stem), 32)
    size = CONVOLUTION_OF_32[stem]
    features = {"s": 128, "5x5": 32}.get(stem, 64)
    assert found["conv1"] == (size, features)
    assert found["entry"] == (size if stem in ("patch", "cifar") else size // 2, features)
    assert found["layer1"] == (found["entry"][0], 64)


@pytest.mark.parametrize("n", range(32, 42))
def test_pairs_of_2x2_have_the_sizes_of_3x3(n: int) -> None:
    assert sizes(resnet(18, stem="2x2"), n) == sizes(resnet(18, stem="c"), n)


def field(stem: str, convs: int | None = None) -> tuple[int, int]:
    """First and last input row that the middle of a stem's output depends on, all of its weights positive."""
    conv1 = resnet(18, stem=stem)["conv1"]
    assert isinstance(conv1, Sequential)
    part = Sequential(*list(conv1.children().values())[:convs])
    x = jnp.ones((1, 33, 33, 3))
    params, state = jax.eval_shape(part.init, KEY, x)
    params, state = jax.tree.map(lambda a: jnp.ones(a.shape), (params, state))
    dx = fast_jit(jax.grad(lambda x: part.apply(params, state, x)[0][0, 8, 8].sum()))(x)
    rows = np.flatnonzero(np.asarray(dx).any((0, 2, 3)))
    return int(rows[0]), int(rows[-1])


@pytest.mark.parametrize(("pairs", "threes"), [(4, 1), (None, None)])
def test_pairs_of_2x2_see_what_3x3_see(pairs: int | None, threes: int | None) -> None:
    assert field("2x2", pairs) == field("c", threes)
    assert field("2x2", 1) != field("c", 1)


def test_a_stem_of_ones_own() -> None:
    stem = Sequential(Conv(24, 5, stride=2), Activation("gelu"))
    net = resnet(18, stem=stem)
    assert net["conv1"] is stem
    assert sizes(net, 64)["entry"] == (16, 24)
    assert sizes(net, 64)["layer1"] == (16, 64)


@pytest.mark.parametrize("n", [32, 33, 47])
def test_pools_of_a_stem(n: int) -> None:
    plain = sizes(resnet(18), n)
    assert sizes(resnet(18, stem_pool="conv"), n) == plain
    assert sizes(resnet(18, stem_pool="none"), n)["entry"] == plain["conv1"]
    assert sizes(resnet(18, stem="patch", stem_pool="max"), n)["entry"][0] == -(-(n // 4) // 2)
    assert "maxpool" not in resnet(18, stem_pool="none").children()
    conv = resnet(18, stem_pool="conv")["maxpool"]
    assert conv == Sequential(Conv(64, 3, stride=2, bias=False), BatchNorm(), Activation("relu"))


# Output stride


def test_dilations_begin_after_the_first_block() -> None:
    layers = convs(resnet(50, output_stride=8))
    dilated = {path: conv.dilation for path, conv in layers.items() if conv.dilation != 1}
    assert dilated == {
        **{f"layer3.{j}.conv2": 2 for j in range(1, 6)},
        "layer4.0.conv2": 2,
        **{f"layer4.{j}.conv2": 4 for j in range(1, 3)},
    }
    basic = convs(resnet(18, output_stride=16))
    assert [basic[f"layer4.{j}.conv{k}"].dilation for j in (0, 1) for k in (1, 2)] == [1, 2, 2, 2]


def test_output_stride_of_other_stems_and_shortcuts() -> None:
    for shortcut in ("conv", "avgpool", "pad"):
        assert sizes(resnet(26, shortcut=shortcut, output_stride=8), 65)["layer4"] == (9, 2048)
    own = Sequential(Conv(24, 5, stride=2, padding=0))
    for stem, pool, right in (
        ("cifar", None, 2),
        ("a", "none", 8),
        ("patch", "max", 16),
        ("patch", None, 8),
        (own, None, 8),
    ):
        found = sizes(resnet(18, stem=stem, stem_pool=pool, output_stride=right), 96)
        assert 96 / right - 1 <= found["layer4"][0] <= 96 / right, (stem, found)
    cifar = resnet(20, stem="cifar", width=16, output_stride=2)
    assert [maps(cifar, 1, 32, 32, 3)[f"layer{i}"][0] for i in (1, 2, 3)] == [32, 16, 16]


# Options


def convs(net: models.Network) -> dict[str, Conv]:
    return {path: layer for path, layer in net.walk() if isinstance(layer, Conv)}


@pytest.mark.parametrize("n", [32, 33, 47, 63])
@pytest.mark.parametrize("shortcut", ["avgpool", "pad"])
@pytest.mark.parametrize("depth", [18, 26])
def test_shortcuts_fit_odd_sizes(depth: int, shortcut: str, n: int) -> None:
    assert sizes(resnet(depth, shortcut=shortcut), n) == sizes(resnet(depth), n)


def test_shortcuts() -> None:
    made = {kind: resnet(50, shortcut=kind) for kind in ("conv", "avgpool", "pad")}
    conv, bn = Conv(512, 1, stride=2, bias=False), BatchNorm()
    assert made["conv"]["layer2.0.downsample"] == Sequential(conv, bn)
    pool = AvgPool(2, stride=2, padding="SAME", count_include_pad=False)
    assert made["avgpool"]["layer2.0.downsample"] == Sequential(pool, Conv(512, 1, bias=False), bn)
    assert made["avgpool"]["layer1.0.downsample.0"] == Identity()
    assert made["pad"]["layer2.0.downsample"] == PadChannels(512, stride=2)
    for net in made.values():
        assert net["layer2.1.downsample"] == Identity()


def test_where_a_bottleneck_strides() -> None:
    first, second = (convs(resnet(50, stride_at=at)) for at in ("conv1", "conv2"))
    assert (first["layer2.0.conv1"].stride, first["layer2.0.conv2"].stride) == (2, 1)
    assert (second["layer2.0.conv1"].stride, second["layer2.0.conv2"].stride) == (1, 2)
    assert {p for p in first if first[p] != second[p]} == {f"layer{i}.0.conv{k}" for i in (2, 3, 4) for k in (1, 2)}


@pytest.mark.parametrize(("depth", "stride_at"), [(18, "conv2"), (26, "conv2"), (26, "conv1")])
@pytest.mark.parametrize("n", [32, 33])
def test_blur_goes_wherever_the_network_strides(depth: int, stride_at: str, n: int) -> None:
    plain, net = resnet(depth, stride_at=stride_at), resnet(depth, stride_at=stride_at, blur=4)
    assert sizes(net, n) == sizes(plain, n)
    blurs = {path for path, layer in net.walk() if isinstance(layer, BlurPool)}
    assert blurs == {"maxpool.1", "layer2.0.aa", "layer3.0.aa", "layer4.0.aa"}
    assert net["maxpool.0"] == MaxPool(3, stride=1)
    strided = {path for path, conv in convs(net).items() if conv.stride != 1}
    assert strided == {"conv1", *(f"layer{i}.0.downsample.0" for i in (2, 3, 4))}
    assert count(net) == count(plain)


def test_drop_path_grows_linearly_to_its_rate() -> None:
    net = resnet(34, drop_path=0.3)
    rates = {path: layer.rate for path, layer in net.walk() if isinstance(layer, DropPath)}
    right = np.linspace(0, 0.3, 16)[1:]  # the first block's is 0: no layer
    np.testing.assert_allclose(list(rates.values()), right)
    assert next(iter(rates)) == "layer1.1.drop_path"
    assert not any(isinstance(layer, DropPath) for _, layer in resnet(34).walk())


def test_groups_and_group_width() -> None:
    net = resnet(50, groups=32, group_width=4)
    for i in (1, 2, 3, 4):
        grouped = convs(net)[f"layer{i}.1.conv2"]
        assert (grouped.groups, grouped.features) == (32, 128 << (i - 1))
    assert convs(resnet(50, group_width=128))["layer1.0.conv2"].features == 128


def test_excitation_has_multiples_of_eight_features() -> None:
    net = resnet(50, se=1 / 16)
    excites = {path: layer for path, layer in net.walk() if isinstance(layer, SqueezeExcite)}
    assert len(excites) == 16
    for i, hidden in enumerate((16, 32, 64, 128), 1):
        assert net[f"layer{i}.0.se.fc1"] == Conv(hidden, 1)
        assert net[f"layer{i}.0.se.fc2"] == Conv(hidden * 16, 1)
    assert not any(isinstance(layer, SqueezeExcite) for _, layer in resnet(50).walk())


@pytest.mark.parametrize("depth", [18, 26])
def test_zero_gamma_is_the_last_norm_of_every_branch(depth: int) -> None:
    for zero_gamma in (True, False):
        net = resnet(depth, width=8, zero_gamma=zero_gamma)
        norms = {path: layer for path, layer in net.walk() if isinstance(layer, BatchNorm)}
        starts = {path for path, layer in norms.items() if not np.any(layer.scale_init(KEY, (2,)))}
        blocks = {path for path, layer in net.walk() if isinstance(layer, Residual)}
        assert starts == ({f"{path}.bn{2 if depth == 18 else 3}" for path in blocks} if zero_gamma else set())


def test_dropout_is_before_the_classifier() -> None:
    net = resnet(26, dropout=0.25)
    assert list(net.children())[-3:] == ["global_pool", "drop", "fc"]
    assert net["drop"] == Dropout(0.25)
    assert "drop" not in resnet(26, num_classes=0, dropout=0.25).children()


def test_width_scales_every_feature() -> None:
    wide, narrow = convs(resnet(26, stem="c")), convs(resnet(26, stem="c", width=16))
    assert {path: conv.features for path, conv in narrow.items()} == {p: c.features // 4 for p, c in wide.items()}


def test_act_and_lowering_reach_every_layer() -> None:
    net = resnet(26, stem="c", stem_pool="conv", se=1 / 4, act="silu", lowering="im2col")
    assert {conv.lowering for conv in convs(net).values()} == {"im2col"}
    acts = [layer.function for p, layer in net.walk() if isinstance(layer, Activation) and ".se." not in p]
    assert set(acts) == {"silu"}
    assert {conv.lowering for conv in convs(resnet(26)).values()} == {"auto"}


def test_without_classes_the_network_ends_in_features() -> None:
    net = resnet(50, num_classes=0)
    assert jax.eval_shape(net.apply, *abstract(net))[0].shape == (1, 2048)
    assert "fc" not in net.children()


@pytest.mark.parametrize("shape", [(2, 64, 3), (2, 33, 3), (1, 33, 34, 35, 2)])
def test_any_number_of_axes_and_channels(shape: tuple[int, ...]) -> None:
    for net in (resnet(18, stem="c", shortcut="avgpool"), resnet(26, blur=3, se=1 / 4, groups=2)):
        params, state, x = abstract(net, *shape)
        assert jax.eval_shape(net.apply, params, state, x)[0].shape == (shape[0], 1000)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_depth_counts_the_weighted_layers(depth: int) -> None:
    branches = [path for path in convs(resnet(depth)) if "downsample" not in path]
    assert len(branches) + 1 == depth


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet(51), r"depth: unknown 51; there are 18, 26, 34, 50"),
        (lambda: resnet(stem="2×2"), r"stem: unknown '2×2'; did you mean '2x2'"),
        (lambda: resnet(stem="deep"), r"stem: unknown 'deep'; there are 'a', 'c', 's'"),
        (lambda: resnet(shortcut="avg_pool"), r"shortcut: unknown 'avg_pool'; did you mean 'avgpool'\?"),
        (lambda: resnet(stride_at="conv3"), r"stride_at: unknown 'conv3'; did you mean 'conv"),
        (lambda: resnet(stem_pool="mx"), r"stem_pool: unknown 'mx'; did you mean 'max'\?"),
        (lambda: models.create("cifar_resnet20", output_stride=8), r"output_stride: .* passes, 1, 2, 4, got 8"),
        (lambda: resnet(stem_pool="none", output_stride=32), r"output_stride: .* passes, 2, 4, 8, 16, got 32"),
        (lambda: resnet(output_stride=12), r"output_stride: .* passes, 4, 8, 16, 32, got 12"),
        (lambda: resnet(act="rleu"), r"unknown activation 'rleu'; did you mean 'relu'"),
        (lambda: resnet(18, groups=2), r"groups, group_width and stride_at are for bottlenecks; depth 18 has basic"),
        (lambda: models.create("resnet5O"), r"unknown model 'resnet5O'; did you mean 'resnet50"),
        (lambda: models.create("xyz"), r"unknown model 'xyz'; there are 'resnet18'"),
    ],
)
def test_unknown_options_name_the_nearest(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# Parity

THEIRS: dict[str, tuple[str, dict, dict]] = {  # the library, our options, theirs
    "resnet18": ("torchvision", {}, {}),
    "resnet50": ("torchvision", {}, {}),
    "resnext50_32x4d": ("torchvision", {}, {}),
    "resnet26t": ("timm", {}, {}),
    "resnet18d": ("timm", {"output_stride": 16}, {"output_stride": 16}),
    "resnet26d": ("timm", {"output_stride": 8}, {"output_stride": 8}),
    "seresnet50": ("timm", {}, {}),
    "resnetblur50": ("timm", {}, {}),
    "resnetrs50": ("timm", {}, {}),
}


@pytest.mark.parametrize("name", THEIRS)
def test_it_is_theirs(name: str, agree: Agree) -> None:
    library, ours, options = THEIRS[name]
    theirs = reference(library, name, num_classes=10, **options)
    agree(models.create(name, num_classes=10, **ours), theirs, (4, 64, 48, 3))
