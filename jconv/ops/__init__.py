"""Arrays in, arrays out: the convolutions, poolings and normalisations that the layers are made of."""

from jconv.ops.conv import conv
from jconv.ops.lowerings.im2col import im2col
from jconv.ops.norm import batch_norm
from jconv.ops.pool import avg_pool, blur_pool, global_avg_pool, max_pool

__all__ = ["avg_pool", "batch_norm", "blur_pool", "conv", "global_avg_pool", "im2col", "max_pool"]
