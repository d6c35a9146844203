"""Arrays in, arrays out: the convolutions, poolings and normalisations that the layers are made of."""

from jconv.ops.activation import relu, relu6
from jconv.ops.adaptive import adaptive_avg_pool, adaptive_max_pool
from jconv.ops.blur import blur_pool, max_blur_pool
from jconv.ops.conv import conv
from jconv.ops.conv_transpose import conv_transpose, overlap_map
from jconv.ops.explain import explain
from jconv.ops.filters import apply_filter, filter_kernel
from jconv.ops.kernels import compose_kernels, factor_kernel, separate
from jconv.ops.lowerings.im2col import im2col
from jconv.ops.matrix import col2im, conv_matrix
from jconv.ops.norm import batch_norm, fold_batch_norm, group_norm, layer_norm, local_response_norm, standardize_kernel
from jconv.ops.pool import avg_pool, global_avg_pool, global_max_pool, l2_pool, max_pool
from jconv.ops.rearrange import channel_shuffle, depth_to_space, space_to_depth
from jconv.ops.resize import resize, resize_conv

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "apply_filter",
    "avg_pool",
    "batch_norm",
    "blur_pool",
    "channel_shuffle",
    "col2im",
    "compose_kernels",
    "conv",
    "conv_matrix",
    "conv_transpose",
    "depth_to_space",
    "explain",
    "factor_kernel",
    "filter_kernel",
    "fold_batch_norm",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "im2col",
    "l2_pool",
    "layer_norm",
    "local_response_norm",
    "max_blur_pool",
    "max_pool",
    "overlap_map",
    "relu",
    "relu6",
    "resize",
    "resize_conv",
    "separate",
    "space_to_depth",
    "standardize_kernel",
]
