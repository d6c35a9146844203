"""Finding and fetching Imagenette: a server on this machine plays the official one, a closed port plays no network."""

import http.server
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from train.data import archive, download, load
from train.errors import RunError


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch) -> None:
    """An empty working directory and home, and no proxy between the test and its server."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def official(make_archive, tmp_path: Path, monkeypatch) -> Path:
    """A tiny archive that passes for the official one."""
    packed = make_archive("imagenette2-160.tgz")
    (tmp_path / "served").mkdir()
    packed = packed.rename(tmp_path / "served" / packed.name)
    (tmp_path / "imagenette2-160").rename(tmp_path / "original")
    monkeypatch.setitem(archive.OFFICIAL, packed.name, (packed.stat().st_size, archive.sha256(packed)))
    return packed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the folder `served`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}/"
        served.shutdown()


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/"


def test_fetch_once(official: Path, server: str, cache: Path) -> None:
    lines: list[str] = []
    path = download.fetch(cache, base_url=server, report=lines.append)
    assert path == download.fetch(cache, base_url=server, report=lines.append)
    assert path == cache / official.name and path.read_bytes() == official.read_bytes()
    assert len(lines) == 1 and lines[0].startswith(f"Downloading {server}imagenette2-160.tgz")
    assert [found.name for found in cache.iterdir()] == [official.name]


def test_load_downloads_unpacks_and_squeezes(official: Path, server: str, cache: Path, monkeypatch) -> None:
    monkeypatch.setattr(download, "fetch", partial(download.fetch, base_url=server))
    data = load(None, side=8, cache_dir=cache, report=lambda line: None)
    assert data.name == "imagenette2-160" and len(data.train) == 7 and len(data.val) == 3
    monkeypatch.setattr(download, "fetch", None)  # the second time the cache has it
    lines: list[str] = []
    load(None, side=8, cache_dir=cache, report=lines.append)
    assert lines == [f"Using {cache / official.name}"]


def test_damaged_download(official: Path, server: str, cache: Path) -> None:
    got_before = archive.sha256(official)
    official.write_bytes(official.read_bytes() + b"x")
    with pytest.raises(RunError, match=f"came out damaged; run again.*{got_before}.*{archive.sha256(official)}"):
        download.fetch(cache, base_url=server, report=lambda line: None)
    assert list(cache.iterdir()) == []


def test_missing_on_the_server(official: Path, server: str, cache: Path) -> None:
    official.unlink()
    with pytest.raises(RunError, match="could not be fetched \\(404 File not found\\)"):
        download.fetch(cache, base_url=server, report=lambda line: None)
    assert list(cache.iterdir()) == []


def test_no_network(closed_port: str, cache: Path, monkeypatch) -> None:
    monkeypatch.setattr(download, "fetch", partial(download.fetch, base_url=closed_port))
    with pytest.raises(RunError) as caught:
        load(None, cache_dir=cache, report=lambda line: None)
    text = str(caught.value)
    assert f"{closed_port}imagenette2-160.tgz could not be fetched (ConnectionError).\nIs there a network?" in text
    for remedy in ("--data digits ", "--data DIR ", "--data imagenette2-160.tgz "):
        assert f"  python -m train.imagenette {remedy}" in text
    assert text.endswith(f"fetched by hand from {closed_port}imagenette2-160.tgz")
    assert list(cache.iterdir()) == []


def test_full_disk_before_a_download(official: Path, server: str, cache: Path, monkeypatch) -> None:
    monkeypatch.setitem(archive.OFFICIAL, official.name, (10**18, "0" * 64))
    with pytest.raises(RunError, match=re.escape(f"The disk of {cache / official.name} is full")):
        download.fetch(cache, base_url=server)
    assert list(cache.iterdir()) == []


def test_local_copies_in_their_order(tmp_path: Path, cache: Path) -> None:
    home, found = tmp_path / "home", [download.local_copy(cache)]
    for folder in (
        home / ".fastai/data/imagenette2-320",
        Path("imagenette2-320"),
        home / ".fastai/data/imagenette2-160",
        cache / "imagenette2-160",
        Path("data/imagenette2-160"),
        Path("imagenette2-160"),
    ):
        (folder / "train").mkdir(parents=True)
        found.append(download.local_copy(cache))
        assert found[-1] == folder
    assert found[0] is None


def test_a_local_folder_is_used(make_folder, cache: Path) -> None:
    make_folder("work/imagenette2-320")
    lines: list[str] = []
    assert load(None, side=8, cache_dir=cache, report=lines.append).name == "imagenette2-320"
    assert lines[0] == "Using imagenette2-320"
