"""SqueezeNet: sizes of both versions, and torchvision's numbers."""

import pytest

from jconv.models import squeezenet
from tests.models.parity import Agree, reference
from tests.models.shapes import maps


def test_sizes_are_the_papers() -> None:
    """Table 1, where conv1 is 111×111 wide: an image of 224 without padding, rounded up, or of 227."""
    sizes = {"conv1": (109, 109, 96), "fire4": (54, 54, 256), "fire8": (27, 27, 512), "fire9": (13, 13, 512)}
    assert maps(squeezenet(), 1, 224, 224, 3) == sizes | {"value": (1000,)}
    sizes = {"conv1": (111, 111, 64), "fire3": (55, 55, 128), "fire5": (27, 27, 256), "fire9": (13, 13, 512)}
    assert maps(squeezenet(version="1.1"), 1, 224, 224, 3) == sizes | {"value": (1000,)}


def test_no_classes_and_width() -> None:
    assert maps(squeezenet(num_classes=0), 1, 64, 64, 3)["value"] == (512,)
    assert maps(squeezenet(width=1 / 4, num_classes=7), 1, 64, 48, 3) == {
        "conv1": (29, 21, 24), "fire4": (14, 10, 64), "fire8": (7, 5, 128), "fire9": (3, 2, 128), "value": (7,),
    }  # fmt: skip


def test_an_unknown_version() -> None:
    with pytest.raises(ValueError, match=r"version: unknown '1_1'; did you mean '1.1'"):
        squeezenet(version="1_1")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_it_is_torchvisions(version: str, agree: Agree) -> None:
    theirs = reference("torchvision", f"squeezenet{version.replace('.', '_')}", num_classes=10, dropout=0.0)
    agree(squeezenet(version=version, num_classes=10, dropout=0.0), theirs, (2, 70, 64, 3))
