"""What happens to an image before a network sees it; it travels with the weights that were trained on it."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

__all__ = ["Preprocessing"]

METHODS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side to `size / crop`, cut the middle `size` out, then `(pixel / 255 - mean) / std`.

    Args:
        mean, std: of each channel, on the scale of 0 to 1.
        size: pixels along each side of what the network sees.
        crop: part of the shorter side that is kept.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos".

    Raises:
        ValueError: a crop outside (0, 1], an unknown interpolation.

    Example:
        >>> Preprocessing(size=128).arrays(np.full((128, 128, 3), 255, np.uint8))[0, 0]
        array([2.2489083, 2.4285715, 2.64     ], dtype=float32)
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    size: int = 224
    crop: float = 0.875
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop: expected a part of the image in (0, 1], got {self.crop}")
        if self.interpolation not in METHODS:
            raise ValueError(f"interpolation: expected one of {', '.join(METHODS)}, got {self.interpolation!r}")

    def __call__(self, image: Any) -> np.ndarray:
        """An image of Pillow's, or a file, as (size, size, C) float32."""
        from PIL import Image

        if isinstance(image, str | Path):
            with Image.open(image) as opened:
                return self(opened)
        image = image.convert("RGB" if len(self.mean) == 3 else "L")
        short, width, height = int(self.size / self.crop), *image.size
        scale = short / min(width, height)
        sizes = [short if n == min(width, height) else int(n * scale) for n in (width, height)]
        image = image.resize(sizes, getattr(Image.Resampling, self.interpolation.upper()))
        left, top = (round((n - self.size) / 2) for n in sizes)
        return self.arrays(np.asarray(image.crop((left, top, left + self.size, top + self.size))))

    def arrays(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels 0 to 255, (..., C) or without channels, as the network takes them: float32."""
        pixels = pixels if pixels.shape[-1:] == (len(self.mean),) else pixels[..., None]
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return ((pixels / np.float32(255) - mean) / std).astype(np.float32)

    # As text

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From JSON, as `dump` writes it."""
        return cls(**json.loads(text))

    @classmethod
    def of_timm(cls, config: Mapping[str, Any]) -> Self:
        """From a `config.json` of timm's on the Hugging Face hub."""
        config = config.get("pretrained_cfg", config)
        return cls(
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            size=config["input_size"][-1],
            crop=config.get("crop_pct") or cls.crop,
            interpolation=config.get("interpolation", cls.interpolation),
        )
