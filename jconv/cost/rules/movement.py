"""Data movement: no operations, only bytes; and names for the same memory, which cost nothing.

A cast counts no FLOPs here; XLA counts one for each element.
"""

from typing import TYPE_CHECKING

from jconv.cost.rules.base import Rule, Work, free, names

if TYPE_CHECKING:
    from jconv.cost.trace import Op

__all__ = ["RULES"]

MOVES = names("""
    broadcast_in_dim broadcast_to concatenate convert_element_type copy copy_p device_put empty empty2 iota
    lu_pivots_to_permutation pad reduce_precision rev split stack tile transpose unstack zeros_like
    all_gather all_gather_invariant all_gather_reduced all_to_all pbroadcast pgather ppermute ragged_all_to_all reshard
""")
FREE = names("""
    after_all axis_index bitcast_convert_type create_token custom_lin debug_callback debug_print dce_sink delay
    expand_dims from_edtype inspect_sharding layout_constraint multiple_of name num_programs optimization_barrier
    platform_index preduced program_id pvary random_unwrap random_wrap reduced_vary_cast_p reshape sharding_constraint
    squeeze stop_gradient symbolic_zeros tie to_edtype unreachable vary_unreduced_cast_p
    freeze free_ref get masked_load masked_swap new_ref empty_ref ref store swap load
    semaphore_read semaphore_signal semaphore_wait
""")
SUMS = names("psum psum2 psum_invariant pmax pmin reduce_scatter unreduced_psum unreduced_reduce_scatter addupdate")


def move(op: "Op") -> Work:
    """Reads and writes."""
    del op
    return Work()


def combine(op: "Op") -> Work:
    """A reduction between devices: one operation for each element that this device gives."""
    return Work(flops=sum(v.size for v in op.inputs))


RULES: dict[str, Rule] = {**dict.fromkeys(MOVES, move), **dict.fromkeys(FREE, free), **dict.fromkeys(SUMS, combine)}
