"""What is made of a result: formulas, the roofline, reports, the command line."""

import csv
import io
import json
import re
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import jax
import pytest

import jconv
from jconv import cost
from jconv.cost import formulas
from jconv.cost.cli import main
from jconv.cost.report import COLUMNS, compared
from jconv.cost.text import quantity, seconds, sides
from jconv.layers import Conv


@cache
def result(mode: str = "forward", classes: int = 10) -> cost.Result:
    net = jconv.models.create("resnet18", num_classes=classes, lowering="lax")
    x = jax.ShapeDtypeStruct((2, 64, 64, 3), "bfloat16")
    args = (*jax.eval_shape(net.init, jax.random.key(0), x), x)
    return cost.analyze(partial(net.apply, train=mode == "train"), *args, mode=mode, has_aux=mode == "train")


# Formulas


def test_the_forums_numbers() -> None:
    first, second = Conv(6, 3, stride=2, padding=1), Conv(6, 3, padding=1)
    assert cost.conv_ops(first, (1, 4, 4, 3), convention="forum") == (648, 576)
    assert cost.conv_ops(second, (1, 2, 2, 6), convention="forum") == (1296, 1152)
    assert cost.conv_ops(first, (1, 4, 4, 3)) == (648, 624)
    assert cost.conv_ops(second, jax.ShapeDtypeStruct((1, 2, 2, 6), "float32")) == (1296, 1272)
    with pytest.raises(ValueError, match="convention: expected 'exact' or 'forum', got 'fast'"):
        cost.conv_ops(first, (1, 4, 4, 3), convention="fast")
    with pytest.raises(ValueError, match="conv: its 2 groups do not divide the 3 channels"):
        cost.conv_ops(Conv(6, 3, groups=2), (1, 4, 4, 3))


def test_the_forums_lesson_net() -> None:
    layers = [(1, 8, 5), (8, 16, 3), (16, 32, 3), (32, 32, 3)]
    sizes = [28]
    for _, _, k in layers:
        sizes.append(formulas.output_size(sizes[-1], k, stride=2, padding=k // 2))
    assert sizes[1:] == [14, 7, 4, 2]
    for bias, count in ((False, 15_496), (True, 15_594)):
        convs = sum(formulas.conv_params(k, c, f, bias=bias) for c, f, k in layers)
        assert convs + formulas.linear_params(32, 10, bias=bias) == count


def test_the_forums_savings() -> None:
    fields = {n: formulas.receptive_field_of_stack([(3, 1)] * n) for n in (2, 3)}
    assert fields == {2: 5, 3: 7}
    assert formulas.receptive_field_of_stack([(2, 1)] * 2) == 3
    weights = [formulas.conv_params(k, 1, 1, bias=False) for k in (3, 5, 7, 2)]
    assert [2 * weights[0], weights[1], 3 * weights[0], weights[2], 2 * weights[3]] == [18, 25, 27, 49, 8]


@pytest.mark.parametrize(("groups", "stride", "batch"), [(1, 1, 1), (2, 2, 3)])
def test_formulas_are_what_is_counted(groups: int, stride: int, batch: int) -> None:
    x, k = jax.ShapeDtypeStruct((batch, 14, 14, 4), "float32"), jax.ShapeDtypeStruct((3, 3, 4 // groups, 6), "float32")
    f = partial(jconv.conv, stride=stride, padding=1, groups=groups, lowering="lax")
    m = formulas.output_size(14, 3, stride=stride, padding=1)
    counted = cost.analyze(f, x, k).total.macs
    assert counted == formulas.conv_macs((m, m), 3, 4, 6, groups=groups, batch=batch)
    if groups == batch == 1:
        assert counted == formulas.stack_time([formulas.StackLayer(4, 3, 6, m)])
    assert formulas.linear_macs(5, 7, rows=2) == 70
    with pytest.raises(ValueError, match="groups: expected a number that divides 10 channels and 8 features, got 4"):
        formulas.conv_params(3, 10, 8, groups=4)


# The roofline


def test_the_roofline_is_the_larger_of_two_times() -> None:
    device = cost.Device("toy", 1e9, {"f32": 1e12, "bf16": 4e12}, "a test")
    x, w = jax.ShapeDtypeStruct((512, 512), "float32"), jax.ShapeDtypeStruct((512, 512), "float32")
    bound = cost.roofline(cost.analyze(lambda x, w: x @ w, x, w), device=device).by_layer()[""]
    assert bound.memory == pytest.approx(3 * 512**2 * 4 / 1e9)
    assert bound.compute == pytest.approx(2 * 512**3 / 1e12)
    assert bound.seconds == max(bound.compute, bound.memory)
    assert bound.bound == "memory"
    assert device._replace(bandwidth=1e13).ridge("f32") == pytest.approx(0.1)
    roof = cost.roofline(result("train"), device="h100-sxm")
    for depth in (None, 1, 2):
        assert sum(b.seconds for b in roof.by_layer(depth).values()) == pytest.approx(roof.seconds)


def test_devices_have_sources_and_can_be_the_users(tmp_path: Path) -> None:
    known = cost.devices()
    assert known["h100-sxm"].flops("bf16") == 989e12
    assert known["tpu-v5e"].flops("f32") == 197e12, "as TPUs compute it"
    assert all(d.source and d.bandwidth > 1e11 for d in known.values())
    mine = tmp_path / "mine.toml"
    mine.write_text('[mine]\nbandwidth = 1e11\npeak = { f32 = 1e12 }\nsource = "me"\n')
    assert cost.roofline(result(), device="mine", file=mine).device.source == "me"
    with pytest.raises(ValueError, match="device: unknown 'h100'; did you mean h100-sxm"):
        cost.roofline(result(), device="h100")
    for text in ("peak = 3", "bandwidth = 0\npeak = { f32 = 1e12 }", "bandwidth = 1e11\npeak = { f32 = nan }"):
        mine.write_text(f"[mine]\n{text}\n")
        with pytest.raises(ValueError, match=r"mine.toml is not a file of devices: .* bandwidth = 3.35e12"):
            cost.devices(mine)


# Reports


def test_quantities_read_well() -> None:
    values = [0, 648, 1240, 9999, 10_000, 4_089_184_256, 999_960_000, 118_013_952]
    assert [quantity(n) for n in values] == ["·", "648", "1,240", "9,999", "10.00 k", "4.089 G", "1.000 G", "118.0 M"]
    assert [quantity(n, "B") for n in (12, 802_816, 3_211_264)] == ["12 B", "802.8 kB", "3.211 MB"]
    assert [seconds(s) for s in (0.0, 1.5, 2.5e-3, 1.2e-5, 3e-9)] == ["·", "1.5 s", "2.5 ms", "12 µs", "3 ns"]
    assert [sides((3, 3)), sides((3, 5)), sides((0, 0))] == ["3", "3×5", "all"]


def test_csv_has_exact_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(cost.report(result(), format="csv"))))
    assert sum(int(row["macs"]) for row in rows) == result().total.macs
    assert sum(int(row["params"]) for row in rows) == result().params
    assert set(rows[0]) == {"layer", *COLUMNS}
    trained = list(csv.DictReader(io.StringIO(cost.report(result("train"), format="csv"))))
    assert sum(int(row["forward_macs"]) for row in trained) == result("train").by_phase()["forward"].macs
    assert "macs" not in trained[0]


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_the_table_fits_and_says_what_counts(mode: str) -> None:
    pytest.importorskip("rich")
    roof = cost.roofline(result(mode), device="h100-sxm")
    for width in (80, 120, 160):
        text = cost.report(result(mode), depth=1, width=width, roofline=roof)
        assert max(map(len, text.split("MACs by stage")[0].splitlines())) <= width
        assert "…" not in text
        assert ("left out for want of room: " in text) == (width < 160)
    for words in (
        "layer4",
        "total",
        quantity(result(mode).params),
        "MACs by stage",
        "have a rule, nothing was left out",
    ):
        assert words in text
    assert ("backward kernel" in text) == (mode == "train")


def test_markdown_is_a_table() -> None:
    lines = cost.report(result(), format="markdown", depth=1).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[-1].startswith("| total |")


def test_the_page_is_one_file_that_needs_no_network() -> None:
    roof = cost.roofline(result("train"), device="h100-sxm")
    text = cost.page(result("train"), roofline=roof, title="A </script> & title")
    assert not re.search(r"(?:src|href)\s*=|@import|fetch\(|XMLHttp|url\((?!#)", text)
    assert text.count("</script>") == 2, "data cannot close the script"
    data = json.loads(re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)[0])
    assert sum(layer["macs"] for layer in data["layers"]) == result("train").total.macs
    assert sum(stage["saved"] for stage in data["stages"]) == result("train").saved_bytes
    assert {layer["stage"] for layer in data["layers"]} <= {stage["path"] for stage in data["stages"]}
    assert (data["input"], data["title"]) == ([64, 64], "A </script> & title")
    assert data["device"]["peak"] == 989e12
    assert cost.report(result(), format="html", depth=1).startswith("<!doctype html>")


def test_reports_say_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="format: expected one of table, markdown"):
        cost.report(result(), format="pdf")
    with pytest.raises(ValueError, match="columns: unknown 'mac'; there are input"):
        cost.report(result(), columns=["mac"])
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ValueError, match=r"needs rich: pip install 'jconv\[cost\]'"):
        cost.report(result())


def test_two_results_are_compared() -> None:
    text = compared(result(), result(classes=20))
    (layer,) = (line for line in text.splitlines() if line.startswith("| fc"))
    assert "+100.0 %" in layer
    assert list(cost.diff(result(), result(classes=20))) == ["fc"]


# The command line


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    out, err = capsys.readouterr()
    return code, out, err


SMALL = ("resnet18", "--num-classes", "10", "--input", "2,64,64,3", "--dtype", "bfloat16")


def test_the_command_line_analyses_a_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    assert run(capsys, *SMALL, "--format", "json", "--out", str(a))[0] == 0
    saved = cost.Result.from_dict(json.loads(a.read_text()))
    assert saved.total == result().total
    assert run(capsys, *SMALL, "--stem", "c", "--format", "json", "--out", str(b))[0] == 0
    code, out, _ = run(capsys, "diff", str(a), str(b), "--depth", "1")
    assert code == 0
    assert re.search(r"\| conv1 \|.*\+", out)
    code, out, _ = run(capsys, *SMALL, "--format=markdown", "--mode", "train", "--depth", "1", "--device", "h100-sxm")
    assert code == 0
    assert "at least" in out


def test_the_command_line_analyses_a_function_of_the_users(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_to_cost.py").write_text(
        "import jax, jax.numpy as jnp\n"
        "def f(x, w):\n    return jnp.tanh(x @ w)\n"
        "def spec(*shape):\n    return jax.ShapeDtypeStruct(shape, 'float32')\n"
        "def make(n=3):\n    return f, (spec(2, n), spec(n, 4))\n"
    )
    monkeypatch.chdir(tmp_path)
    for argv, macs in (
        (("mine_to_cost:make",), 24),
        (("mine_to_cost:make", "--n", "5"), 40),
        (("mine_to_cost:f", "--input", "2,3", "--input", "3,4"), 24),
    ):
        code, out, _ = run(capsys, *argv, "--format", "json")
        assert (code, json.loads(out)["total"]["macs"]) == (0, macs)
    code, _, err = run(capsys, "mine_to_cost:jax")
    assert (code, "expected a function, got module" in err) == (2, True)


def test_the_command_line_asks_xla_and_reads_hlo(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two_to_cost.py").write_text(
        "import jax\ndef f(x):\n    with jax.named_scope('double'):\n        return x.astype('bfloat16') * 2\n"
    )
    monkeypatch.chdir(tmp_path)
    argv = ("two_to_cost:f", "--input", "4,8", "--xla")
    code, out, _ = run(capsys, *argv, "--format", "markdown")
    assert code == 0
    assert re.search(r"\| double \| 32 \| 64 \|.*casts", out)
    code, out, _ = run(capsys, *argv, "--format", "json")
    found = json.loads(out)
    assert cost.Result.from_dict(found).total.flops == found["xla"]["layers"][0]["analytic"] == 32
    assert found["xla"]["memory"]["argument"] == 128
    _, out, _ = run(capsys, *argv, "--format", "csv")
    [row] = [row for row in csv.DictReader(io.StringIO(out)) if row["layer"] == "double"]
    assert (row["flops"], row["lowered"]) == ("32", "64") and "casts" in row["why"]
    _, out, _ = run(capsys, *argv, "--format", "html")
    assert re.search(r"<td>double</td><td>32</td><td>64</td>.*casts", out) and "XLA holds" in out
    dump = tmp_path / "dump.txt"
    compiled = jax.jit(jax.named_call(lambda x: x * 2, name="double")).lower(1.0).compile()
    dump.write_text(compiled.as_text() or "")
    code, out, _ = run(capsys, "hlo", str(dump))
    assert code == 0
    assert "| double | 1 |" in out
    dump.write_text("not a module")
    code, _, err = run(capsys, "hlo", str(dump))
    assert (code, "HloModule" in err) == (2, True)


@pytest.mark.parametrize(
    ("budget", "code"), [("macs>1e3", 1), ("macs > 4.2T", 0), ("params<=11.2M", 1), ("seconds>1", 0), ("flops>=1k", 1)]
)
def test_budgets_fail_a_build(capsys: pytest.CaptureFixture[str], budget: str, code: int) -> None:
    got, _, err = run(capsys, *SMALL, "--format", "csv", "--device", "h200", "--fail-if", budget)
    assert got == code
    assert err.startswith("failed: ") == bool(code)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("resnet5O",), "did you mean 'resnet50'"),
        (("resnet18", "--colour", "red"), "colour"),
        (("resnet18", "--input", "a,b"), "expected 1,224,224,3"),
        (("resnet18", "--fail-if", "__import__('os')"), "--fail-if: expected one of macs"),
        (("no_such_module:f",), "MODULE:FUNCTION that can be imported"),
        (("resnet18", "stray"), "stray: expected --option VALUE"),
        (
            ("--num-classes", "5", "lenet5"),
            "--num-classes: expected the name of a network before its options",
        ),
        (
            ("lenet5", "--input", "1,32,32,1", "--fail-if", "macs>1.2.3"),
            "a number as 4.2e9 or 26M, got '1.2.3'",
        ),
        (
            ("lenet5", "--input", "1,32,32,1", "--width", "-5"),
            "width: expected a number of columns, at least 1",
        ),
        (("lenet5", "--input", "1,32,32,1", "--out", "/nowhere/x"), "--out /nowhere/x: it cannot be written: No such"),
        (("lenet5", "--input", "1,32,32,1", "--xla", "--depth", "0"), "depth: expected None or at least 1, got 0"),
        (("diff", "a.json", "b.json"), "a.json"),
    ],
)
def test_the_command_line_says_mistakes(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], message: str
) -> None:
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert message in err


def test_errors_are_without_notes_of_jaxs(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "resnet18", "--input", "1,4")
    assert code == 2
    assert "in layer 'conv1'" in err
    assert "JAX" not in err


def test_a_version_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Though it reads like a number."""
    code, out, _ = run(capsys, "squeezenet1_0", "--version", "1.1", "--format", "json")
    assert code == 0
    assert out == run(capsys, "squeezenet1_1", "--format", "json")[1].replace("squeezenet1_1", "squeezenet1_0")


def test_a_file_that_cannot_be_written_stays_as_it_was(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = ("lenet5", "--input", "1,32,32,1", "--format", "csv", "--out")
    assert run(capsys, *small, str(tmp_path / "a.csv"))[0] == 0
    before = (tmp_path / "a.csv").read_text()
    assert "macs" in before
    (tmp_path / ".a.csv.part").mkdir()  # what is written first
    code, _, err = run(capsys, *small, str(tmp_path / "a.csv"))
    assert (code, (tmp_path / "a.csv").read_text()) == (2, before)
    assert "a.csv: it cannot be written" in err


def test_it_is_a_module_to_run_and_imports_jax_and_numpy_alone() -> None:
    code = "import sys, jconv.cost; print(*{n.partition('.')[0] for n in sys.modules})"
    found = set(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split())
    assert not found & {"flax", "rich", "matplotlib", "tyro", "optax"}
    done = subprocess.run([sys.executable, "-m", "jconv.cost", "--help"], capture_output=True, check=True, text=True)
    assert "--fail-if" in done.stdout
