"""Imagenette when no path is given: a copy that lies about, else the official archive from the network.

The archive is fetched with pooch into the cache, checked against its published sha256, and kept there.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from train.data.archive import OFFICIAL
from train.data.bar import bar
from train.data.needs import needs
from train.data.whole import make_once
from train.errors import RunError

BASE_URL = "https://s3.amazonaws.com/fast-ai-imageclas/"
ARCHIVE = "imagenette2-160.tgz"


def local_copy(cache_dir: Path, *, names: Iterable[str] = OFFICIAL) -> Path | None:
    """Returns the first copy of Imagenette that is to hand: of each archive's name, its folder or else itself.

    Looked for in the working directory, its data/, the cache, and fastai's folder ~/.fastai/data.
    """
    places = (Path(), Path("data"), cache_dir, Path("~/.fastai/data").expanduser())
    return next((path for path in _candidates(places, names) if path.exists()), None)


def _candidates(places: tuple[Path, ...], names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        for place in places:
            if (place / Path(name).stem / "train").is_dir():
                yield place / Path(name).stem
        yield from (place / name for place in places)


def fetch(cache_dir: Path, *, base_url: str = BASE_URL, report: Callable[[str], object] = print) -> Path:
    """Downloads the official archive of 160 px into the cache, unless it is there, and returns its path.

    Args:
        cache_dir: where it goes.
        base_url: the address without the file's name; ends in a slash.
        report: is given one line when a download starts.

    Raises:
        RunError: no network, or other bytes than the published ones, or a full disk. Nothing is left behind.
    """
    with needs("train"):
        import pooch
        import requests
    url, final, (size, sha256) = base_url + ARCHIVE, cache_dir / ARCHIVE, OFFICIAL[ARCHIVE]

    def make(part: Path) -> None:
        report(f"Downloading {url} ({size / 1e6:,.0f} MB) to {final}")
        pooch.get_logger().setLevel("WARNING")
        with bar(f"Downloading {ARCHIVE}", size, count_bytes=True) as advance:
            meter: Any = _Meter(advance)
            downloader: Any = pooch.HTTPDownloader(progressbar=meter, chunk_size=1 << 16)
            try:
                pooch.retrieve(url, f"sha256:{sha256}", fname=part.name, path=part.parent, downloader=downloader)
            except requests.RequestException as error:
                raise RunError(_unreachable(url, error)) from error
            except ValueError as error:
                raise RunError(f"{url} came out damaged; run again, or fetch it by hand. {error}") from error

    make_once(final, make, size=size)
    return final


class _Meter:
    """What pooch asks of a progress bar."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.total = self.done = 0
        self.advance = advance

    def update(self, n: int) -> None:
        self.done += n
        self.advance(n)

    def reset(self) -> None:
        self.update(-self.done)

    def close(self) -> None:
        """The bar is closed by who opened it."""


def _unreachable(url: str, error: Exception) -> str:
    response = getattr(error, "response", None)
    reason = type(error).__name__ if response is None else f"{response.status_code} {response.reason}"
    return f"""No copy of Imagenette was found here, and {url} could not be fetched ({reason}).
Is there a network? Without one, each of these works:
  python -m train.imagenette --data digits                 small images that come with scikit-learn
  python -m train.imagenette --data DIR                    a folder with train/CLASS/IMAGE and val/CLASS/IMAGE
  python -m train.imagenette --data {ARCHIVE}    the archive, fetched by hand from {url}"""
