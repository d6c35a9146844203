"""Everything a run can be told, in one dataclass: it is the command line, and what a run writes down about itself."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from train.errors import RunError

__all__ = ["Config", "data_kind", "flag", "read_config", "unchanged"]

Schedule = Literal["cosine", "onecycle"]

DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {
        "model": "cifar_resnet20",
        "epochs": 20,
        "size": 8,
        "batch_size": 64,
        "lr": 0.1,
        "min_scale": 0.6,
        "crop": 1.0,
        "flip": False,
        "schedule": "onecycle",
        "weight_decay": 5e-4,
    },
    "imagenette": {
        "model": "resnet18",
        "epochs": 5,
        "size": 128,
        "batch_size": 32,
        "lr": 0.08,
        "min_scale": 0.35,
        "crop": 0.875,
        "flip": True,
        "schedule": "onecycle",
        "weight_decay": 5e-4,
    },
}
"""What a field that is None becomes, for each kind of data."""


RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("epochs", "size", "batch_size", "side"), ("at least 1", lambda v: v >= 1)),
    **dict.fromkeys(("lr", "weight_decay"), ("a number of at least 0", lambda v: 0 <= v < math.inf)),
    **dict.fromkeys(("warmup", "label_smoothing"), ("a number from 0 to 1", lambda v: 0 <= v <= 1)),
    **dict.fromkeys(("min_scale", "crop"), ("a number above 0, at most 1", lambda v: 0 < v <= 1)),
    **dict.fromkeys(("momentum", "drop_path"), ("a number from 0 to below 1", lambda v: 0 <= v < 1)),
    "mean": ("finite numbers", lambda v: all(map(math.isfinite, v))),
    "std": ("finite numbers above 0", lambda v: all(0 < s < math.inf for s in v)),
    "seed": ("a whole number from 0 to 2**32 - 1", lambda v: 0 <= v < 2**32),
}
"""What a field may be, in words and as a test."""


def _of_data(metavar: str) -> Any:
    """How --help shows a field whose default depends on the data, which its text then names."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


@dataclasses.dataclass(frozen=True)
class Config:
    """Train an image classifier; by default a ResNet on Imagenette. A field left at None takes the data's default."""

    data: Annotated[str | None, _of_data("STR")] = None
    """digits (8×8, comes with scikit-learn) | a folder with train/ and val/ | an archive of one (.tgz, .tar) |
    tfds[:DATA_DIR] | leave it out to find Imagenette on this computer, or download it (99 MB)."""
    model: Annotated[str | None, _of_data("STR")] = None
    """A name from jconv.models.list(). Default: cifar_resnet20 for digits, resnet18 for pictures."""
    stem: Annotated[str | None, _of_data("STR")] = None
    """Another stem for the model: a (7×7/2) | c (three 3×3) | s | t | 5x5 | 2x2 (pairs) | patch (4×4/4) | cifar."""
    weights: str | None = None
    """Weights to start from: a file (.safetensors, .npz, .pth), a folder, hf-hub:OWNER/NAME, or a name on the shelf
    (jconv.models.shelf()). A classifier of other classes starts anew."""
    freeze: str | None = None
    """Layers that stay as they are, statistics included: paths or patterns of them, with commas: 'conv1,bn1,layer1'."""
    lr_by_path: str | None = None
    """Factors of the learning rate for some layers: 'layer1=0.1,layer*=0.3'; the first that fits counts."""
    epochs: Annotated[int | None, _of_data("INT")] = None
    """How often every training image is seen. Default: 20 for digits, 5 for pictures."""
    size: Annotated[int | None, _of_data("INT")] = None
    """Side of the square the network sees, in pixels. Default: 8 for digits, 128 for pictures."""
    batch_size: Annotated[int | None, _of_data("INT")] = None
    """Images in a step, over all devices together. Default: 64 for digits, 32 for pictures."""
    lr: Annotated[float | None, _of_data("FLOAT")] = None
    """Highest learning rate, for this batch size (scale both together, Goyal et al. 2017). Default: 0.1 and 0.08."""
    schedule: Annotated[Schedule | None, _of_data("{cosine,onecycle}")] = None
    """cosine: linear warm-up, then half a cosine to 0. onecycle: learning rate up, then down; momentum down, up.
    Default: onecycle."""
    warmup: float = 0.25
    """The part of all steps in which the learning rate rises."""
    momentum: float = 0.9
    """Nesterov momentum; onecycle takes it from momentum + 0.05 to momentum - 0.05 and back."""
    weight_decay: Annotated[float | None, _of_data("FLOAT")] = None
    """L2 penalty on kernels; biases and BatchNorm have none. Default: 5e-4."""
    label_smoothing: float = 0.1
    """The share of the target that is spread over all classes."""
    min_scale: Annotated[float | None, _of_data("FLOAT")] = None
    """Random-resized-crop: the smallest part of the image's area that a crop keeps. Default: 0.6 and 0.35."""
    flip: Annotated[bool | None, _of_data("{True,False}")] = None
    """Mirror half of the training images. Default: not for digits."""
    crop: Annotated[float | None, _of_data("FLOAT")] = None
    """Validation: the side of the central square, as a part of the image's shorter side. Default: 1 and 0.875."""
    mean: Annotated[tuple[float, ...] | None, _of_data("FLOAT ...")] = None
    """Of pixels in 0..1, for each channel. Default: what the weights were trained with, else the data's."""
    std: Annotated[tuple[float, ...] | None, _of_data("FLOAT ...")] = None
    """As mean, the standard deviation."""
    drop_path: float | None = None
    """Stochastic depth: the last block's probability of being left out. Default: the network's own."""
    seed: int = 0
    """Decides the first parameters, every shuffle and every crop."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in; parameters and statistics stay float32."""
    lowering: str = "auto"
    """How convolutions are computed: auto, or all in one way: lax | im2col | chunked | kn2row | fft."""
    parallel: Literal["jit", "pmap"] = "jit"
    """How the batch is split over all local devices; the numbers are the same, but for Dropout and stochastic depth."""
    strict: bool = False
    """Stop at the first unreadable image instead of leaving it out."""
    side: int = 160
    """Side of the squares that pictures are kept in after decoding; at least --size, or they are enlarged."""
    out: Annotated[Path | None, _of_data("DIR")] = None
    """Where the run is written. Default: runs/<date>-<time>-<model>."""
    resume: bool = False
    """Go on with the run in --out, exactly as if it had never stopped."""

    def complete(self, kind: str) -> "Config":
        """This config with the defaults of that kind of data in place of None."""
        known = {k: v for k, v in DEFAULTS[kind].items() if getattr(self, k) is None}
        return dataclasses.replace(self, **known)

    def check(self) -> None:
        """RunError unless every number makes sense."""
        for name, (expected, holds) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not holds(value):
                raise RunError(f"{flag(name)}: expected {expected}, got {value}")

    @classmethod
    def of_json(cls, saved: dict[str, Any]) -> "Config":
        """What `to_json` wrote; fields that it did not know yet have their defaults. TypeError if it is no dict."""
        known = {f.name for f in dataclasses.fields(cls)} & {*saved}
        values: dict[str, Any] = {n: tuple(saved[n]) if isinstance(saved[n], list) else saved[n] for n in known}
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON knows them."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}


def data_kind(data: str | None) -> str:
    """The row of DEFAULTS for this --data."""
    return "digits" if data == "digits" else "imagenette"


def flag(name: str) -> str:
    """How a field is called on the command line."""
    return f"--{name.replace('_', '-')}"


def read_config(path: Path) -> Config:
    """The config that a run wrote down. RunError if the file holds none."""
    try:
        config = Config.of_json(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}: this is no config of a run ({error}); start another run with another --out") from None
    return dataclasses.replace(config, out=path.parent)


def unchanged(saved: Config, asked: Config) -> Config:
    """The config to resume. RunError if the command line, read with the run's config as defaults, changes it."""
    changed = [
        f"{flag(name)} {value} (the run has {getattr(saved, name)})"
        for name, value in dataclasses.asdict(asked).items()
        if name not in ("out", "resume") and value != getattr(saved, name)
    ]
    if changed:
        raise RunError(
            f"--resume goes on with the run as it was, but the command line changes {', '.join(changed)}; "
            f"leave these out, or start another run with another --out"
        )
    return dataclasses.replace(saved, resume=True)
