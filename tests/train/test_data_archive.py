"""Archives: unpacked once and whole, checked against the published sha256, and refused when unsafe or damaged."""

import io
import os
import re
import tarfile
from pathlib import Path

import pytest

from train.data import archive, load
from train.errors import RunError


def names(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


@pytest.mark.parametrize("name", ["pets.tgz", "pets.tar.gz", "pets.tar", "PETS.TGZ"])
def test_unpacks_once(make_archive, cache: Path, name: str, monkeypatch) -> None:
    packed = make_archive(name)
    root = archive.unpack(packed, cache)
    assert root.parent.parent == cache and len(list(root.glob("*/*/*.JPEG"))) == 10
    assert names(cache) == [root.parent.name]
    monkeypatch.setattr(archive, "_extract", None)  # not called again
    assert archive.unpack(packed, cache) == root


def test_a_changed_archive_is_unpacked_anew(make_archive, cache: Path) -> None:
    packed = make_archive()
    first = archive.unpack(packed, cache)
    os.utime(packed, (1, 1))
    assert archive.unpack(packed, cache) != first


def test_loads_under_its_own_name(make_archive, cache: Path) -> None:
    data = load(str(make_archive("pets.tar.gz")), side=8, cache_dir=cache, report=lambda line: None)
    assert data.name == "pets" and data.train.images.shape == (7, 8, 8, 3) and data.classes == ("cat", "dog")


def evil(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        good = tarfile.TarInfo("pets/train/cat/0.JPEG")
        good.size = 3
        tar.addfile(good, io.BytesIO(b"abc"))
        for member in members:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../evil.txt"),
        tarfile.TarInfo("pets/train/../../../evil.txt"),
        tarfile.TarInfo("/evil-absolute.txt"),
        tarfile.TarInfo("C:/evil.txt"),
        link("pets/link", "../../evil.txt"),
        link("pets/link", "/etc/passwd"),
        link("pets/hard", "../../evil.txt", tarfile.LNKTYPE),
        link("pets/fifo", "", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name}-{member.linkname}",
)
def test_unsafe_members_are_refused(tmp_path: Path, cache: Path, member: tarfile.TarInfo) -> None:
    path = evil(tmp_path / "evil.tgz", member)
    with pytest.raises(RunError, match=f"{path} is not safe to unpack: its member {re.escape(repr(member.name))}"):
        archive.unpack(path, cache)
    assert names(cache) == [] and not list(tmp_path.glob("evil*.txt")) and not Path("/evil-absolute.txt").exists()


def test_links_that_stay_inside_are_kept(tmp_path: Path, cache: Path) -> None:
    val = tarfile.TarInfo("pets/val/cat/0.JPEG")
    root = archive.unpack(evil(tmp_path / "good.tgz", val, link("pets/train/cat/1.JPEG", "0.JPEG")), cache)
    assert (root / "train/cat/1.JPEG").read_bytes() == b"abc"


def test_wrong_checksum(make_archive, cache: Path) -> None:
    packed = make_archive("imagenette2-160.tgz")
    expected, got = archive.OFFICIAL["imagenette2-160.tgz"][1], archive.sha256(packed)
    message = f"expected sha256 {expected}, got {got}. Delete it and download it again"
    with pytest.raises(RunError, match=re.escape(message)):
        archive.unpack(packed, cache)
    assert names(cache) == []


def test_right_checksum(make_archive, cache: Path, monkeypatch) -> None:
    packed = make_archive("imagenette2-160.tgz")
    monkeypatch.setitem(archive.OFFICIAL, packed.name, (packed.stat().st_size, archive.sha256(packed)))
    assert archive.unpack(packed, cache).name == "imagenette2-160"


@pytest.mark.parametrize("name", ["pets.tgz", "pets.tar"])
@pytest.mark.parametrize("kept", [0.0, 0.03, 0.3, 0.6, 0.9, 0.999])
def test_truncated(make_archive, cache: Path, name: str, kept: float) -> None:
    packed = make_archive(name)
    if name.endswith(".tar"):  # whole blocks and no padding, so that the cut may fall where a header would begin
        end = len(packed.read_bytes().rstrip(b"\0")) // 512 * 512 + 512
        os.truncate(packed, int(end * kept) // 512 * 512)
    else:
        os.truncate(packed, int(packed.stat().st_size * kept))
    with pytest.raises(RunError, match=f"{packed} is truncated or corrupt .*Delete it"):
        archive.unpack(packed, cache)
    assert names(cache) == []


@pytest.mark.parametrize("place", [0, 300, -6])
def test_corrupt(make_archive, cache: Path, place: int) -> None:
    packed = make_archive()
    content = bytearray(packed.read_bytes())
    content[place] ^= 0xFF  # the magic number, the compressed data, the checksum of gzip
    packed.write_bytes(content)
    with pytest.raises(RunError, match=f"{packed} is truncated or corrupt"):
        archive.unpack(packed, cache)
    assert names(cache) == []


def test_archive_without_the_layout(make_archive, cache: Path) -> None:
    packed = make_archive("pets.tgz", {"train/cat": 1})
    with pytest.raises(RunError, match=f"{packed}/pets has no val/: expected"):
        archive.unpack(packed, cache)
    assert names(cache) == []


def test_other_files_are_no_archives(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"pets\.zip is neither a folder nor an archive \(\.tgz, \.tar\.gz, \.tar\)"):
        load(str(tmp_path / "pets.zip"), cache_dir=cache)
