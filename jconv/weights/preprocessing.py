"""What happens to an image before a network sees it; it travels with the weights that were trained on it."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

__all__ = ["Preprocessing"]

METHODS = ("nearest", "bilinear", "bicubic", "lanczos")
MODES = ("center", "squash")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resize to `size / crop`, cut the middle `size` out, then `(pixel / 255 - mean) / std`.

    Args:
        mean, std: of each channel, on the scale of 0 to 1.
        size: pixels along each side of what the network sees.
        crop: part of the resized side that is kept.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos".
        crop_mode: "center" resizes the shorter side, "squash" both sides, whatever the image's shape.

    Raises:
        ValueError: means and deviations of different lengths, a deviation or size that is not positive, a crop outside
            (0, 1], an unknown interpolation or mode.

    Example:
        >>> Preprocessing(size=128).arrays(np.full((128, 128, 3), 255, np.uint8))[0, 0]
        array([2.2489083, 2.4285715, 2.64     ], dtype=float32)
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    size: int = 224
    crop: float = 0.875
    interpolation: str = "bilinear"
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if not 0 < len(self.mean) == len(self.std):
            raise ValueError(f"mean, std: expected one of each for every channel, got {self.mean} and {self.std}")
        if not all(0 < s < math.inf for s in self.std) or not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean, std: expected finite means, and deviations above 0, got {self.mean}, {self.std}")
        if self.size != int(self.size) or self.size < 1:
            raise ValueError(f"size: expected a whole number of pixels, at least 1, got {self.size}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop: expected a part of the image in (0, 1], got {self.crop}")
        if self.interpolation not in METHODS:
            raise ValueError(f"interpolation: expected one of {', '.join(METHODS)}, got {self.interpolation!r}")
        if self.crop_mode not in MODES:
            raise ValueError(
                f"crop_mode: expected one of {', '.join(MODES)}, got {self.crop_mode!r}; for the weights without their "
                f"preprocessing load their file instead of the folder"
            )

    def __call__(self, image: Any) -> np.ndarray:
        """An image of Pillow's, or a file, as (size, size, C) float32."""
        from PIL import Image

        if isinstance(image, str | Path):
            with Image.open(image) as opened:
                return self(opened)
        if len(self.mean) not in (1, 3):
            raise ValueError(f"expected a mean of 1 channel, grey, or 3, colour, for a picture, got {len(self.mean)}")
        image = image.convert("RGB" if len(self.mean) == 3 else "L")
        side = int(self.size / self.crop)
        short = min(image.size)
        whole = self.crop_mode == "squash"
        sizes = [side if whole or n == short else int(side * n / short) for n in image.size]
        image = image.resize(sizes, getattr(Image.Resampling, self.interpolation.upper()))
        left, top = (round((n - self.size) / 2) for n in sizes)
        return self.arrays(np.asarray(image.crop((left, top, left + self.size, top + self.size))))

    def arrays(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels 0 to 255, (..., C), or (...) of one channel, as the network takes them: (..., C) float32."""
        channels = len(self.mean)
        if channels == 1 and pixels.shape[-1:] != (1,):
            pixels = pixels[..., None]
        if pixels.shape[-1:] != (channels,):
            raise ValueError(f"pixels: expected (..., {channels}), a channel for each mean, got {pixels.shape}")
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return ((pixels / np.float32(255) - mean) / std).astype(np.float32)

    def for_channels(self, channels: int) -> Self:
        """The same for images of another number of channels: the average for one, else repeated in turn.

        As `jconv.weights.load` makes a kernel for them. Its sum on grey images is the network's value on the same
        images in colour if all means and all deviations are equal, and nearly if they are nearly so.

        Example:
            >>> Preprocessing((0.1, 0.2, 0.6), (1, 2, 3)).for_channels(4).mean
            (0.1, 0.2, 0.6, 0.1)
        """

        def of(values: tuple[float, ...]) -> tuple[float, ...]:
            count = len(values)
            return (sum(values) / count,) if channels == 1 else tuple(values[i % count] for i in range(channels))

        if channels == len(self.mean):
            return self
        return dataclasses.replace(self, mean=of(self.mean), std=of(self.std))

    # As text

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From JSON, as `dump` writes it. ValueError if it is none."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ValueError(f"preprocessing: {error}, in {text!r}") from error

    @classmethod
    def of_timm(cls, config: Mapping[str, Any]) -> Self:
        """From a `config.json` of timm's on the Hugging Face hub."""
        config = config.get("pretrained_cfg", config)
        *_, height, width = config["input_size"]
        if height != width:
            raise ValueError(f"input_size: expected a square, got {height}×{width}; load the file of weights alone")
        return cls(
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            size=width,
            crop=config.get("crop_pct") or cls.crop,
            interpolation=config.get("interpolation") or cls.interpolation,
            crop_mode=config.get("crop_mode") or cls.crop_mode,
        )
