"""Files that are whole or not there at all, and checkpoints that come back bit for bit."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.layers import Identity, Linear
from jconv.models import Network
from train import checkpoint
from train.config import Config
from train.errors import RunError
from train.schedule import optimizer
from train.step import TrainState, new_state

IMAGE = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")


@pytest.fixture
def state(tiny_network: Network, tiny_config: Config) -> TrainState:
    """A state after a step of random gradients, so that nothing in it is still zero."""
    tx = optimizer(tiny_config, 10)
    ts = new_state(tx, *tiny_network.init(jax.random.key(0), IMAGE))
    grads = jax.tree.map(lambda p: jax.random.normal(jax.random.key(p.size), p.shape), ts.params)
    return ts.replace(opt_state=tx.update(grads, ts.opt_state, ts.params)[1], step=ts.step + 1)  # pyright: ignore[reportAttributeAccessIssue]


def fail(monkeypatch, code: int, where: str) -> None:
    """Lets `where`, os.fsync or os.replace, fail as the operating system does."""

    def refuse(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, where, refuse)


def test_write_replaces_and_makes_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    for content in (b"one", b"and two"):
        checkpoint.write(path, content)
        assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode, "others may read it if the umask lets them"
    checkpoint.write_json(path, {"a": [1]})
    assert json.loads(path.read_text()) == {"a": [1]}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch, code: int, where: str) -> None:
    path = tmp_path / "run 1" / "checkpoint.msgpack"
    checkpoint.write(path, b"old")
    (path.parent / "config.json").touch()
    fail(monkeypatch, code, where)
    with pytest.raises(RunError) as caught:
        checkpoint.write(path, bytes(2_340_000))
    assert str(caught.value) == (
        f"{path}: the disk is full: 2.3 MB could not be written; the one written before is kept. Free some space, "
        f"then go on with: python -m train.imagenette --resume --out '{path.parent}'"
    )
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in path.parent.iterdir()) == ["checkpoint.msgpack", "config.json"]


def test_full_disk_before_there_is_a_run(tmp_path: Path, monkeypatch) -> None:
    fail(monkeypatch, errno.ENOSPC, "fsync")
    with pytest.raises(RunError, match=r"disk is full.*nothing was written before it\. Free some space, then start it"):
        checkpoint.write(tmp_path / "checkpoint.msgpack", b"new")
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"run/a: could not be written: Not a directory; choose another folder"):
        checkpoint.write(tmp_path / "file" / "run" / "a", b"")


def test_interrupt_leaves_no_part(tmp_path: Path, monkeypatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    checkpoint.write(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(tmp_path / "a", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_part_that_a_kill_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".a.part").write_bytes(b"half of something longer")
    checkpoint.write(tmp_path / "a", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"new"]


def bits(tree: Any) -> list[tuple[str, tuple[int, ...], str, bytes]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [
        (jax.tree_util.keystr(p), np.shape(a), str(np.asarray(a).dtype), np.asarray(a).tobytes()) for p, a in leaves
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip_bit_for_bit(tmp_path: Path, state: TrainState, dtype: str) -> None:
    half = jax.tree.map(lambda p: p.astype(dtype), state.params)
    state = state.replace(params=half)  # pyright: ignore[reportAttributeAccessIssue]
    path = tmp_path / "checkpoint.msgpack"
    checkpoint.save(path, state, 7)
    blank = jax.tree.map(jnp.zeros_like, state)
    got, epoch = checkpoint.load(path, blank)
    assert epoch == 7
    assert jax.tree.structure(got) == jax.tree.structure(state)
    assert bits(got) == bits(state)
    assert bits(got) != bits(blank)
    names = " ".join(name for name, *_ in bits(got))
    assert all(part in names for part in ("trace", "learning_rate", "momentum", "mean", "step"))


def test_no_checkpoint(tmp_path: Path, state: TrainState) -> None:
    with pytest.raises(RunError, match=r"checkpoint\.msgpack: no checkpoint to resume from"):
        checkpoint.load(tmp_path / "checkpoint.msgpack", state)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_cut_short(tmp_path: Path, state: TrainState, share: float) -> None:
    path = tmp_path / "checkpoint.msgpack"
    checkpoint.save(path, state, 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunError, match="this is no checkpoint of that network"):
        checkpoint.load(path, state)


@pytest.mark.parametrize("content", [b"\x05", b"\xc0", b"\x93\x01\x02\x03", b"\x80", b'{"epoch": 1}', b"\xc1"])
def test_something_else(tmp_path: Path, state: TrainState, content: bytes) -> None:
    path = tmp_path / "checkpoint.msgpack"
    path.write_bytes(content)
    with pytest.raises(RunError, match="this is no checkpoint of that network"):
        checkpoint.load(path, state)


def test_another_network(tmp_path: Path, state: TrainState, tiny_network: Network, tiny_config: Config) -> None:
    path = tmp_path / "checkpoint.msgpack"
    checkpoint.save(path, state, 1)
    tx = optimizer(tiny_config, 10)
    other = new_state(tx, *tiny_network.replace("bn1", Identity()).init(jax.random.key(0), IMAGE))
    with pytest.raises(RunError, match=r"no checkpoint of that network.*bn1.*expected shape None, got \(4,\)"):
        checkpoint.load(path, other)
    wider = new_state(tx, *tiny_network.replace("fc", Linear(9)).init(jax.random.key(0), IMAGE))
    with pytest.raises(RunError, match=r"fc.*expected shape \(9,\), got \(4,\); has the data changed since\?"):
        checkpoint.load(path, wider)
