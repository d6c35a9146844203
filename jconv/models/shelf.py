"""The shelf: trained networks, each a folder with weights and a card that says what it is and how it came about."""

import os
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jconv import weights
from jconv.layers import Params, State
from jconv.layers.base import nearest
from jconv.models.network import Network
from jconv.weights import Preprocessing

__all__ = ["Trained", "cards", "folder_of", "read"]

CARD, WEIGHTS = "card.toml", "weights.safetensors"
NEEDED = ("architecture", "input", "classes")


class Trained(NamedTuple):
    """A network that is ready: `model.apply(params, state, preprocessing(image)[None])[0]` are the classes' logits."""

    model: Network
    params: Params
    state: State
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    card: dict[str, Any]


def folder_of(shelf: str | Path | None) -> Path:
    """The shelf: the folder given, else $JCONV_SHELF, else `models` in the working folder or beside this package."""
    if shelf is not None:
        return Path(shelf)
    if "JCONV_SHELF" in os.environ:
        return Path(os.environ["JCONV_SHELF"])
    here = Path("models")
    return here if any(here.glob(f"*/{CARD}")) else Path(__file__).parents[2] / "models"


def cards(shelf: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """The cards of the networks on the shelf, by name. ValueError for a folder that is not there."""
    if shelf is not None and not Path(shelf).is_dir():
        raise ValueError(f"folder: expected a shelf, a folder of folders with {CARD}, got {str(shelf)!r}: not there")
    return {path.parent.name: _card(path) for path in sorted(folder_of(shelf).glob(f"*/{CARD}"))}


def read(name: str | Path, create: Any, shelf: str | Path | None = None) -> Trained:
    """The network in a folder, or of that name on the shelf; `create` makes one by its architecture's name."""
    folder = Path(name)
    if not (folder / CARD).exists():
        folder = folder_of(shelf) / name
    if not (folder / CARD).exists():
        known = cards(shelf) if folder_of(shelf).is_dir() else {}
        hint = nearest(str(name), known) if known else f"there is none in {folder_of(shelf)}"
        if (Path(name) / "checkpoint.msgpack").exists():
            hint = f"this is the folder of a run, of which `python -m train.shelve {name}` makes one"
        raise ValueError(f"unknown trained model {str(name)!r}: expected a folder with {CARD}, or a name; {hint}")
    card = _card(folder / CARD)
    if missing := [key for key in NEEDED if key not in card]:
        raise ValueError(f"{folder / CARD}: expected the keys {', '.join(NEEDED)}; missing: {', '.join(missing)}")
    model = create(card["architecture"], **card.get("options", {}))
    x = jax.ShapeDtypeStruct((1, *card["input"]), "float32")
    params, state, preprocessing = weights.load(model, folder / WEIGHTS, x=x)
    if preprocessing is None:
        raise ValueError(f"{folder / WEIGHTS}: expected weights with their preprocessing; see jconv.weights.save")
    return Trained(model, params, state, preprocessing, tuple(card["classes"]), card)


def _card(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: this is no card: {error}") from error
