"""A TensorFlow Datasets builder of Imagenette that needs no TensorFlow: the same name, config and features as theirs.

Theirs lists and unpacks with `tf.io.gfile`; this one is handed a Source. `tfds.data_source` reads what it writes.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image

from train.data.cache import rgb
from train.data.types import Picture, Source

CONFIG, VERSION = "160px-v2", "1.0.0"

Example = tuple[str, dict[str, Any]]


class Imagenette(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # `tfds.builder` still finds theirs
    """Imagenette from a Source; `keep` says of each picture whether it goes in."""

    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=CONFIG, description="160px variant.")]  # noqa: RUF012
    code_path = None  # where to find checksums: there are none, and to look needs an undeclared importlib_resources

    def __init__(self, source: Source, keep: Callable[[Picture], bool], data_dir: Path) -> None:
        self._source, self._keep = source, keep
        super().__init__(config=CONFIG, data_dir=str(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=list(self._source.classes)),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Ten easily classified classes of ImageNet, built by jconv.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://github.com/fastai/imagenette",
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Iterator[Example]]:
        return {"train": self._generate_examples("train"), "validation": self._generate_examples("val")}

    def _generate_examples(self, split: str) -> Iterator[Example]:
        for picture in getattr(self._source, split):
            if self._keep(picture):
                image = io.BytesIO(_jpeg(picture.data))
                yield picture.name, {"image": image, "label": picture.label}


def _jpeg(data: Path | bytes) -> bytes:
    """The bytes of a grey or RGB JPEG as they are; anything else as an RGB JPEG of quality 95."""
    data = data.read_bytes() if isinstance(data, Path) else data
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "JPEG" and image.mode in ("RGB", "L"):
            return data
        encoded = io.BytesIO()
        rgb(image).save(encoded, "JPEG", quality=95)
        return encoded.getvalue()
