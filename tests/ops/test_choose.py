"""What `lowering="auto"` takes: the rule, the measured table, and how it is explained."""

import itertools
import json
import operator
from importlib import resources
from statistics import geometric_mean

import jax
import pytest

import jconv
from jconv.ops.choose import choose
from jconv.ops.lowerings import LOWERINGS, SLOTS, Form
from jconv.ops.window import Axis


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
    """Once it is one it stays one in a larger window, for every slot, dense and depthwise."""
    for groups in (1, 64):
        for slot in SLOTS:
            taken = []
            for kernel in range(3, 33, 2):
                form, *rest = dense(8, 32, 64, 64, kernel)
                taken.append(choose("cpu", slot, form._replace(groups=groups), *rest).lowering == "fft")
            assert taken == sorted(taken) and not taken[0] and taken[-1]
    form, *rest = dense(64, 224, 256, 256, 31)
    assert choose("cpu", "y", form, *rest).lowering != "fft", "the transforms would take 30 GB"


def test_one_channel_to_many_is_a_stem_and_no_depthwise_convolution() -> None:
    """A sum of shifts would repeat the image for every feature; one feature is a filter, and that is shifts."""
    form, n, _, _ = dense(8, 112, 1, 64, 7, 2)
    assert "shift" not in {choose("cpu", slot, form, n, 1, 64).lowering for slot in SLOTS}
    assert {choose("cpu", slot, form, n, 1, 1).lowering for slot in SLOTS} == {"shift"}


def test_windows_that_do_not_overlap_are_a_matmul() -> None:
    for kernel in (2, 4, 16, 32):
        form = Form((64, 64), (Axis(kernel, kernel),) * 2, 1)
        assert {choose("cpu", slot, form, 8, 3, 96).lowering for slot in SLOTS} == {"matmul"}


UNROLLED = {"shift", "chunked", "kn2row", "im2col"}


def test_nothing_has_hundreds_of_steps_to_compile() -> None:
    for (kernel, stride), (channels, groups) in itertools.product(
        ((13, 2), (31, 2), (31, 1), (16, 8), (21, 5)), ((1, 1), (3, 1), (64, 1), (64, 64), (64, 8))
    ):
        form, *_ = dense(8, 64, channels, 64, kernel, stride)
        for slot in SLOTS:
            found = choose("cpu", slot, form._replace(groups=groups), 8, channels, 64)
            assert found.lowering not in UNROLLED, (kernel, stride, channels, groups, found)


def test_a_measured_convolution_takes_what_was_measured() -> None:
    rows = json.loads(resources.files("jconv.ops").joinpath("cpu.json").read_text())["rows"]
    assert len(rows) >= 20
    for row in rows:
        of = dict(row["of"])
        form = Form(tuple(of["sizes"]), tuple(Axis(*a) for a in of["window"]), of["groups"])
        for slot in SLOTS:
            found = choose("cpu", slot, form, of["batch"], of["channels"], of["features"])
            if found.lowering == "fft":  # which a rule takes, no measurement
                continue
            taken, plain = row[slot][found.lowering], row[slot]["lax"]
            assert all(ms <= own for ms, own in zip(taken, plain, strict=True)), "slower than XLA's own somewhere"
            safe = [geometric_mean(ms) for ms in row[slot].values() if all(map(operator.le, ms, plain))]
            assert geometric_mean(taken) <= 1.4 * min(safe) + 1.0
            assert row["shape"] in found.why


def test_a_measured_row_has_a_time_on_each_of_its_machines() -> None:
    for row in json.loads(resources.files("jconv.ops").joinpath("cpu.json").read_text())["rows"]:
        assert {len(ms) for slot in SLOTS for ms in row[slot].values()} == {len(row["machines"])}


def test_explain_says_what_and_why() -> None:
    x, kernel = jax.ShapeDtypeStruct((8, 28, 28, 64), "float32"), jax.ShapeDtypeStruct((3, 3, 64, 64), "float32")
    found = jconv.explain(x, kernel, padding="CIRCULAR", platform="cpu")
    assert {c.lowering for c in found} <= {*LOWERINGS}
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines] == ["forward", "input", "kernel"]
    assert all("measured on" in line and "lax" in line and " ms" in line for line in lines)
    assert "vendor" in str(jconv.explain(x, kernel, platform="cuda"))
    assert {c.lowering for c in jconv.explain(x, kernel, flip=True, lowering="im2col")} == {"im2col"}
    with pytest.raises(ValueError, match=r"platform: expected one of 'cpu', .*got 'CPU'"):
        jconv.explain(x, kernel, platform="CPU")
    with pytest.raises(ValueError, match="kernel: x of shape"):
        jconv.explain(x, jax.ShapeDtypeStruct((3, 3, 3, 64), "float32"))
