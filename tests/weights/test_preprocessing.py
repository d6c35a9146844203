"""What happens to an image first: as in timm, and nothing that does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jconv.weights import Preprocessing
from tests.models.parity import imported


def test_preprocessing_is_timms(rng: np.random.Generator) -> None:
    image_module = pytest.importorskip("PIL.Image")
    create_transform = imported("timm").data.create_transform

    cases = ((320, 213, 128, 0.875, "bilinear", "center"), (99, 200, 96, 0.95, "bicubic", "center"))
    cases += ((320, 213, 128, 0.875, "bilinear", "squash"), (99, 200, 96, 1.0, "bicubic", "squash"))
    cases += ((98, 196, 256, 1.0, "bilinear", "center"), (2000, 3000, 288, 1.0, "bicubic", "center"))
    for width, height, size, crop, method, mode in cases:
        image = image_module.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        ours = Preprocessing(size=size, crop=crop, interpolation=method, crop_mode=mode)(image)
        options = {"mean": Preprocessing.mean, "std": Preprocessing.std, "crop_pct": crop, "interpolation": method}
        theirs = create_transform(size, crop_mode=mode, **options)
        np.testing.assert_allclose(ours, np.moveaxis(theirs(image).numpy(), 0, -1), rtol=1e-5, atol=1e-5)


def test_preprocessing_of_a_file(tmp_path: Path, rng: np.random.Generator) -> None:
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8))
    image.save(tmp_path / "a.png")
    prep = Preprocessing(size=32)
    np.testing.assert_array_equal(prep(tmp_path / "a.png"), prep(image))
    grey = Preprocessing(mean=(0.5,), std=(0.5,), size=32)
    assert grey(tmp_path / "a.png").shape == (32, 32, 1)
    assert Preprocessing.parse(prep.dump()) == prep


def test_bad_preprocessing_is_said() -> None:
    with pytest.raises(ValueError, match=r"crop: expected a part of the image in \(0, 1\], got 1.5"):
        Preprocessing(crop=1.5)
    with pytest.raises(ValueError, match=r"interpolation: expected one of nearest, .*, got 'cubic'"):
        Preprocessing(interpolation="cubic")
    wrong: dict[str, Any]
    for wrong in ({"mean": (0.5,)}, {"std": (1.0, 1.0)}, {"mean": (), "std": ()}):
        with pytest.raises(ValueError, match="mean, std: expected one of each for every channel"):
            Preprocessing(**wrong)
    for wrong in ({"std": (1, 0, 1)}, {"std": (1, -1, 1)}, {"std": (1, np.nan, 1)}, {"mean": (0, np.inf, 0)}):
        with pytest.raises(ValueError, match="expected finite means, and deviations above 0"):
            Preprocessing(**wrong)
    for size in (0, -3, 7.5):
        with pytest.raises(ValueError, match="size: expected a whole number of pixels, at least 1, got"):
            Preprocessing(size=size)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="crop_mode: expected one of center, squash, got 'border'; for the weights"):
        Preprocessing(crop_mode="border")


def config(**options: Any) -> dict[str, Any]:
    """What timm keeps beside a model's weights."""
    about = {"mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 96, 96], "crop_pct": None, "crop_mode": None}
    return {"pretrained_cfg": about | options}


def test_what_timm_says() -> None:
    assert Preprocessing.of_timm(config()) == Preprocessing((0.5,) * 3, (0.25,) * 3, 96)
    assert Preprocessing.of_timm(config(crop_mode="squash", crop_pct=1.0)).crop_mode == "squash"
    with pytest.raises(ValueError, match="crop_mode: expected one of"):
        Preprocessing.of_timm(config(crop_mode="border"))
    with pytest.raises(ValueError, match="input_size: expected a square, got 96×128"):
        Preprocessing.of_timm(config(input_size=[3, 96, 128]))


def test_pixels_have_a_channel_for_each_mean(rng: np.random.Generator) -> None:
    colour, grey = Preprocessing(), Preprocessing((0.5,), (0.25,))
    pixels = rng.integers(0, 256, (4, 8, 3))
    for c in range(3):
        one = Preprocessing(colour.mean[c : c + 1], colour.std[c : c + 1])
        np.testing.assert_array_equal(colour.arrays(pixels)[..., c], one.arrays(pixels[..., c])[..., 0])
    for shape, out in {(8, 8): (8, 8, 1), (8, 8, 1): (8, 8, 1), (2, 8, 4): (2, 8, 4, 1)}.items():
        assert grey.arrays(np.zeros(shape)).shape == out
    for shape in ((8, 8, 4), (8, 8, 1), (8, 8), ()):
        with pytest.raises(ValueError, match=r"pixels: expected \(\.\.\., 3\), a channel for each mean, got \("):
            colour.arrays(np.zeros(shape))


def test_other_channels() -> None:
    prep = Preprocessing((0.1, 0.2, 0.6), (1, 2, 6), size=8)
    assert prep.for_channels(3) is prep
    assert prep.for_channels(1).mean == pytest.approx((0.3,)) and prep.for_channels(1).std == (3.0,)
    assert prep.for_channels(5).std == (1, 2, 6, 1, 2) and prep.for_channels(2).size == 8
    image_module = pytest.importorskip("PIL.Image")
    with pytest.raises(ValueError, match="expected a mean of 1 channel, grey, or 3, colour, for a picture, got 5"):
        prep.for_channels(5)(image_module.new("RGB", (9, 9)))


def test_the_longer_side_is_not_a_pixel_short() -> None:
    """`int(side * long / short)`, as torchvision has it: side / short, rounded first, would be too small."""
    image_module = pytest.importorskip("PIL.Image")
    for short, long, side in ((98, 196, 256), (2000, 3000, 288), (49, 98, 100)):
        image = np.zeros((short, long), np.uint8)
        image[:, long // 2 :] = 255  # the middle of the crop is the middle of the image, if the size is right
        seen = Preprocessing(mean=(0.5,), std=(0.5,), size=side, crop=1.0)(image_module.fromarray(image))
        left, right = seen[:, : side // 2], seen[:, side // 2 :]
        np.testing.assert_allclose(left, -right[:, ::-1], atol=1e-6)
