"""What the tests of weights share: a small network, random arrays for any, and whether two trees are the same."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jconv import models

__all__ = ["KEY", "NET", "X", "arrays", "image", "same"]

KEY = jax.random.key(0)
X = jax.ShapeDtypeStruct((2, 32, 32, 3), "float32")
NET = models.resnet(18, width=8, stem="c", shortcut="avgpool", num_classes=7)


def image(*shape: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    """An input of this shape, with one example."""
    return jax.ShapeDtypeStruct((1, *shape), dtype)


def arrays(net: Any = NET, x: Any = X, seed: int = 0) -> tuple[Any, Any]:
    """Random parameters and statistics."""
    rng = np.random.default_rng(seed)
    like = jax.eval_shape(net.init, KEY, x)
    return jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.5, 1.5, a.shape), jnp.float32), like)


def same(a: Any, b: Any) -> bool:
    """Bit for bit, dtypes too."""
    return jax.tree.all(jax.tree.map(lambda p, q: p.dtype == q.dtype and np.array_equal(p, q), a, b))
