"""Pictures by a network whose weights come from anywhere: of any number of classes, named where they are named."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jconv import models, weights
from train import predict
from train.errors import RunError
from train.trained import ready, words

NAME = "cifar_resnet20"
PETS = ["cat", "cow", "dog"]


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of three classes."""
    net = models.create(NAME, num_classes=3)
    path = tmp_path_factory.mktemp("pets") / "pets.npz"
    params, state = net.init(jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
    weights.save(path, params, state, preprocessing=weights.Preprocessing(size=32, mean=(0.4, 0.5, 0.6)))
    return path


def test_weights_say_how_many_classes_there_are(pets: Path) -> None:
    trained = ready(NAME, str(pets))
    assert trained.classes == ("0", "1", "2") and trained.preprocessing.mean == (0.4, 0.5, 0.6)
    assert trained.model == models.create(NAME, num_classes=3)


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("card.toml", f"classes = {PETS}", PETS),
        ("config.json", json.dumps({"label_names": PETS}), PETS),
        ("config.json", json.dumps({"label_names": ["cat", "cow"]}), ["0", "1", "2"]),
        ("config.json", json.dumps({"architecture": NAME}), ["0", "1", "2"]),
    ],
)
def test_classes_are_named_beside_their_weights(
    file: str, text: str, names: list[str], pets: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.npz").write_bytes(pets.read_bytes())
    (tmp_path / file).write_text(text)
    assert ready(NAME, str(tmp_path)).classes == tuple(names)


def test_a_thousand_classes_are_imagenets(tmp_path: Path) -> None:
    net = models.create("squeezenet1_1")  # whose published names are others too, and whose classifier is a convolution
    shapes = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), "float32"))
    weights.save(tmp_path / "net.npz", *jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes))
    assert ready("squeezenet1_1", str(tmp_path / "net.npz")).classes == words()


def test_no_more_classes_are_named_than_there_are(pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image.new("RGB", (40, 30), (200, 100, 0)).save(photo := tmp_path / "photo.png")
    arguments = [str(photo), "--model", NAME, "--weights", str(pets), "--out", "None", "--top"]
    assert predict.main([*arguments, "50"]) == 0
    shown = capsys.readouterr().out
    [p] = predict.predict(ready(NAME, str(pets)), [photo])
    assert shown.count("%") == 3 and all(f"{100 * each:.1f} %" in shown for each in p)
    assert predict.main([*arguments, "0"]) == 1
    assert "--top: expected at least 1, got 0" in capsys.readouterr().err


def test_a_network_without_classes_has_none_to_predict(pets: Path) -> None:
    with pytest.raises(RunError, match="--model dcgan: dcgan has no option 'num_classes'"):
        ready("dcgan", str(pets))
