"""What is in these pictures? The five likeliest classes in words, and a drawing.

python -m train.predict photo.jpg --model digits_resnet20
python -m train.predict *.jpg --model resnet50d --weights hf-hub:timm/resnet50d.ra2_in1k
"""

import dataclasses
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jconv.models import Trained
from train.checkpoint import write
from train.data.needs import needs
from train.errors import RunError
from train.trained import Seen, ready

__all__ = ["Options", "main", "predict"]


@dataclasses.dataclass(frozen=True)
class Options:
    """Name what pictures show."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of pictures."""
    model: str
    """A trained network: a name on the shelf (jconv.models.shelf()) or its folder; with --weights, a name from
    jconv.models.list()."""
    weights: str | None = None
    """A file, a folder, or hf-hub:OWNER/NAME with weights of torchvision's or timm's names. How many classes they are
    for is read from them, the classes' names from a card.toml or config.json beside them."""
    seen: Annotated[Seen, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Seen)
    top: int = 5
    """How many classes to name, or all if there are fewer."""
    out: Path | None = Path("predictions.png")
    """Where to draw; None draws nothing."""


def predict(trained: Trained, images: Sequence[Path]) -> np.ndarray:
    """The probability of each class for each image: (N, classes). RunError for a file that is no picture."""
    arrays = []
    for path in images:
        try:
            arrays.append(trained.preprocessing(path))
        except Exception as error:  # a broken file makes Pillow raise almost anything
            raise RunError(f"{path}: expected a picture: {error}") from error
    apply = jax.jit(lambda params, state, x: jax.nn.softmax(trained.model.apply(params, state, x)[0]))
    return np.concatenate([np.asarray(apply(trained.params, trained.state, jnp.asarray(a)[None])) for a in arrays])


def draw(path: Path, images: Sequence[Path], found: np.ndarray, classes: Sequence[str], top: int) -> None:
    """Each picture beside its likeliest classes."""
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(7, max(1.9, 0.25 * top) * len(images)), layout="constrained")
    for i, (image, p) in enumerate(zip(images, found, strict=True)):
        left, right = figure.add_subplot(len(images), 2, 2 * i + 1), figure.add_subplot(len(images), 2, 2 * i + 2)
        with Image.open(image) as opened:
            left.imshow(opened.convert("RGB"))
        left.set_title(image.name, fontsize=8)
        left.set_axis_off()
        best = np.argsort(-p)[:top]
        right.barh([classes[k] for k in best], 100 * p[best], color="#4c78a8")
        right.invert_yaxis()
        right.set(xlim=(0, 112))
        for y, k in enumerate(best):
            right.text(100 * p[k] + 1, y, f"{100 * p[k]:.1f} %", va="center", fontsize=7)
        right.tick_params(labelsize=8, length=0)
        right.set_xticks([])
        right.spines[:].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write(path, buffer.getvalue())


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = tyro.cli(Options, prog="python -m train.predict", description=__doc__, args=arguments)
    try:
        if not options.images:
            raise RunError("expected files of pictures: python -m train.predict photo.jpg --model NAME")
        if options.top < 1:
            raise RunError(f"--top: expected at least 1, got {options.top}")
        trained = ready(options.model, options.weights, options.seen)
        found = predict(trained, options.images)
        top = min(options.top, len(trained.classes))
        with needs("train"):
            if options.out is not None:
                draw(options.out, options.images, found, trained.classes, top)
    except RunError as error:
        Console(stderr=True, markup=False).print(f"error: {error}", style="bold red")
        return 1
    table = Table("picture", "", "class", "probability")
    for image, p in zip(options.images, found, strict=True):
        for rank, k in enumerate(np.argsort(-p)[:top]):
            table.add_row("" if rank else image.name, str(rank + 1), trained.classes[k], f"{100 * p[k]:.1f} %")
        table.add_section()
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    console.print(table)
    if options.out is not None:
        console.print(f"drawn in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
