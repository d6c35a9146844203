"""How good is a trained network? Its accuracy on labelled pictures, and what it takes for what.

python -m train.evaluate --data digits --model digits_resnet20
python -m train.evaluate --data imagenette2-160 --model resnet50d --weights hf-hub:timm/resnet50d.ra2_in1k
"""

import collections
import dataclasses
import io
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from jconv.models import Trained
from train import data
from train.checkpoint import write_json
from train.data import Picture
from train.data.cache import passing
from train.data.folder import words as in_words
from train.errors import RunError
from train.trained import Seen, ready, wnids, words

__all__ = ["Options", "Scores", "judge", "logits", "main", "targets"]


@dataclasses.dataclass(frozen=True)
class Options:
    """The accuracy of a trained network."""

    model: str
    """A trained network: a name on the shelf (jconv.models.shelf()) or its folder; with --weights, a name from
    jconv.models.list()."""
    data: str | None = None
    """digits | a folder with train/CLASS/IMAGE and val/CLASS/IMAGE | an archive of one | tfds[:DATA_DIR] | leave it out
    to find or download Imagenette. CLASS is a word or a WordNet id that the network knows."""
    split: Literal["val", "train"] = "val"
    """Which of its pictures."""
    weights: str | None = None
    """A file, a folder, or hf-hub:OWNER/NAME with weights of torchvision's or timm's names. How many classes they are
    for is read from them, the classes' names from a card.toml or config.json beside them."""
    seen: Annotated[Seen, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Seen)
    batch_size: int = 32
    """Pictures at a time."""
    out: Path | None = None
    """A JSON file for the numbers."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """What was found of n pictures.

    Args:
        top1, top5: parts whose class was the likeliest, or among the five.
        loss: mean of -log p of the right class.
        taken_for: (what it is, what it was taken for, how often), the most frequent first.
    """

    n: int
    top1: float
    top5: float
    loss: float
    taken_for: tuple[tuple[str, str, int], ...]

    @property
    def error(self) -> float:
        """The standard error of top1, `sqrt(p (1 - p) / n)`."""
        return (self.top1 * (1 - self.top1) / self.n) ** 0.5


def targets(folders: Sequence[str], trained: Trained) -> np.ndarray:
    """For each class of the pictures its place among the network's. RunError with all that it does not know."""
    places = {name: i for i, name in reversed(list(enumerate(trained.classes)))}
    if trained.classes == words():
        places |= {wnid: i for i, wnid in enumerate(wnids())}
    found = [next((places[n] for n in (name, *in_words((name,))) if n in places), None) for name in folders]
    unknown = [name for name, i in zip(folders, found, strict=True) if i is None]
    if unknown:
        some = ", ".join(trained.classes[:5])
        raise RunError(
            f"the network does not know {', '.join(unknown)}: expected folders named after its "
            f"{len(trained.classes)} classes ({some}, ...)"
        )
    return np.array(found)


def logits(
    trained: Trained, pictures: Sequence[Picture], batch_size: int
) -> Iterator[tuple[np.ndarray, list[Picture], list[str]]]:
    """For each batch: the logits (n, classes), the pictures they are of, and what could not be read and why."""
    apply = jax.jit(lambda params, state, x: trained.model.apply(params, state, x)[0])

    def read(picture: Picture) -> np.ndarray | str:
        try:
            with Image.open(io.BytesIO(picture.data) if isinstance(picture.data, bytes) else picture.data) as image:
                return trained.preprocessing(image)
        except Exception as error:
            if passing(error):
                raise RunError(f"{picture.name}: it could not be read: {error}") from error
            return f"{picture.name}: {error}"

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(pictures), batch_size):
            some = pictures[start : start + batch_size]
            arrays = list(pool.map(read, some))
            good = [i for i, a in enumerate(arrays) if not isinstance(a, str)]
            x = np.zeros((batch_size, *_shape(trained)), np.float32)  # one shape is compiled
            for row, i in enumerate(good):
                x[row] = arrays[i]
            y = np.asarray(apply(trained.params, trained.state, x))[: len(good)]
            yield y, [some[i] for i in good], [a for a in arrays if isinstance(a, str)]


def _pictures(options: Options, console: Console) -> tuple[Sequence[str], Sequence[Picture]]:
    """The classes' names and the pictures; digits are files in memory."""
    if options.data != "digits":
        source = data.source(options.data, report=console.print)
        return source.classes, getattr(source, options.split)
    digits = data.load("digits")
    split, pictures = getattr(digits, options.split), []
    for i, (pixels, label) in enumerate(zip(split.images, split.labels, strict=True)):
        Image.fromarray(pixels[..., 0]).save(file := io.BytesIO(), "png")
        pictures.append(Picture(f"digit {i}", int(label), file.getvalue()))
    return digits.classes, pictures


def _shape(trained: Trained) -> tuple[int, int, int]:
    seen = trained.preprocessing
    return seen.size, seen.size, len(seen.mean)


def judge(found: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Scores:
    """The scores of logits (n, classes) for these labels. RunError for logits that are not finite."""
    wide, labels = found.astype(np.float64), np.asarray(labels)
    if bad := int((~np.isfinite(wide)).any(-1).sum()):
        raise RunError(f"the network's logits are not finite for {bad} of {len(wide)} pictures: its weights are broken")
    right = wide[np.arange(len(labels)), labels]
    top = wide.max(-1)
    loss = np.log(np.exp(wide - top[:, None]).sum(-1)) + top - right
    earlier = np.arange(wide.shape[-1]) < labels[:, None]  # of equal ones the first is taken, as argmax does
    rank = ((wide > right[:, None]) | ((wide == right[:, None]) & earlier)).sum(-1)
    wrong = collections.Counter(
        (str(classes[a]), str(classes[b])) for a, b in zip(labels, found.argmax(-1), strict=True) if a != b
    )
    pairs = tuple((a, b, n) for (a, b), n in wrong.most_common())
    return Scores(len(labels), float((rank < 1).mean()), float((rank < 5).mean()), float(loss.mean()), pairs)


def evaluate(options: Options, console: Console) -> tuple[Scores, list[str], float]:
    """The scores, the pictures that could not be read, and pictures per second."""
    trained = ready(options.model, options.weights, options.seen)
    classes, pictures = _pictures(options, console)
    places = targets(classes, trained)
    steps = range(0, len(pictures), options.batch_size)
    parts, labels, unread = [], [], []
    began = time.perf_counter()
    batches = logits(trained, pictures, options.batch_size)
    for y, some, bad in track(
        batches, "", len(steps), console=console, transient=True, disable=not console.is_terminal
    ):
        parts.append(y)
        labels += [places[picture.label] for picture in some]
        unread += bad
    if not labels:
        raise RunError(f"none of the {len(pictures)} pictures could be read: {unread[0]}")
    seconds = time.perf_counter() - began
    return judge(np.concatenate(parts), np.array(labels), trained.classes), unread, len(labels) / seconds


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = tyro.cli(Options, prog="python -m train.evaluate", description=__doc__, args=arguments)
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    try:
        if options.batch_size < 1:
            raise RunError(f"--batch-size: expected at least 1, got {options.batch_size}")
        scores, unread, speed = evaluate(options, console)
        if options.out is not None:
            numbers: dict[str, Any] = dataclasses.asdict(scores) | {"error": scores.error, "unread": unread}
            write_json(options.out, numbers)
    except RunError as error:
        Console(stderr=True, markup=False).print(f"error: {error}", style="bold red")
        return 1
    console.print(
        f"{options.model}: top-1 {scores.top1:.2%} ± {scores.error:.2%}, top-5 {scores.top5:.2%}, "
        f"loss {scores.loss:.4f}, on {scores.n:,} pictures ({speed:,.0f}/s)"
    )
    if scores.taken_for:
        table = Table("is", "was taken for", "times", title="what it takes for what", title_justify="left")
        for a, b, n in scores.taken_for[:10]:
            table.add_row(a, b, str(n))
        console.print(table)
    for line in unread[:5]:
        console.print(f"not read: {line}")
    if len(unread) > 5:
        console.print(f"and {len(unread) - 5} more that could not be read")
    return 0


if __name__ == "__main__":
    sys.exit(main())
