"""A tar archive of images, unpacked once into the cache: checked, safely, and whole or not at all.

The official archives are known by name and must have their published sha256.
"""

import hashlib
import tarfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from train.data.bar import bar
from train.data.folder import find_root
from train.data.whole import make_once
from train.errors import RunError

SUFFIXES = (".tgz", ".tar.gz", ".tar")
OFFICIAL = {  # bytes, sha256
    "imagenette2-160.tgz": (99_003_388, "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5"),
    "imagenette2-320.tgz": (341_663_724, "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c"),
}
_BROKEN = (tarfile.ReadError, EOFError, zlib.error, OSError)


def stem(archive: Path) -> str:
    """The name of an archive without its suffix.

    Example:
        >>> stem(Path("some/imagenette2-160.tar.gz"))
        'imagenette2-160'
    """
    suffix = next(suffix for suffix in SUFFIXES if archive.name.lower().endswith(suffix))
    return archive.name[: -len(suffix)]


def unpack(archive: Path, cache_dir: Path) -> Path:
    """Unpacks an archive into the cache, unless it is there already, and returns the folder with train/ and val/.

    The folder in the cache is named by the archive's name, size and modification time, so an archive that changes is
    unpacked anew.

    Args:
        archive: a .tgz, .tar.gz or .tar file of the official layout.
        cache_dir: the cache.

    Raises:
        RunError: another sha256 than the official one of that name; a truncated or corrupt file; a member outside of
            the folder, or a link that leads there (PEP 706); no train/ or val/; a full disk. Nothing is left behind.
    """
    status = archive.stat()
    key = hashlib.sha256(f"{archive.name} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:12]
    final = cache_dir / f"{stem(archive)}-{key}"

    def make(part: Path) -> None:
        _check(archive)
        part.mkdir()
        _extract(archive, part)
        find_root(part, shown=archive)

    make_once(final, make, size=status.st_size)
    return find_root(final, shown=archive)


def sha256(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(archive: Path) -> None:
    if archive.name not in OFFICIAL:
        return
    expected, got = OFFICIAL[archive.name][1], sha256(archive)
    if got != expected:
        raise RunError(
            f"{archive} is not the official archive of that name: expected sha256 {expected}, got {got}. "
            "Delete it and download it again (or rename it, if it is an archive of your own)."
        )


def _extract(archive: Path, folder: Path) -> None:
    size = archive.stat().st_size
    with archive.open("rb") as file, bar(f"Unpacking {archive.name}", size, count_bytes=True) as advance:
        done = 0

        def inside(member: tarfile.TarInfo, where: str) -> tarfile.TarInfo:
            nonlocal done
            advance(file.tell() - done)
            done = file.tell()
            path = PurePosixPath(member.name)
            if path.is_absolute() or PureWindowsPath(member.name).drive or ".." in path.parts:
                raise RunError(f"{archive} is not safe to unpack: its member {member.name!r} lies outside of it.")
            return tarfile.data_filter(member, where)

        try:
            with tarfile.open(fileobj=file, mode="r:*") as tar:
                tar.extractall(folder, filter=inside)
                _expect_end(tar)
        except tarfile.FilterError as error:
            raise RunError(f"{archive} is not safe to unpack: its member {error.tarinfo.name!r}: {error}.") from error
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's doing, not the archive's
                raise
            reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
            raise RunError(
                f"{archive} is truncated or corrupt ({reason}). Delete it and download or copy it again."
            ) from error


def _expect_end(tar: tarfile.TarFile) -> None:
    """Reads on to the end, which tarfile does not: a lost tail and a wrong gzip checksum show only there."""
    file = tar.fileobj
    if file is None:
        return
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end marker")
    while file.read(1 << 20):
        pass
