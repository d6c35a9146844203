"""What families share that read weights under other libraries' names: blocks numbered through, modules renamed."""

import re
from collections.abc import Mapping, Sequence

__all__ = ["place", "renamed"]


def place(i: int, counts: Sequence[int]) -> str:
    """The path of a block below `blocks`, of its number where they are numbered through; past the last, a stage more.

    >>> [place(i, (1, 2, 3)) for i in range(7)]
    ['0.0', '1.0', '1.1', '2.0', '2.1', '2.2', '3.0']
    """
    for stage, count in enumerate(counts):
        if i < count:
            return f"{stage}.{i}"
        i -= count
    return f"{len(counts)}.{i}"


def renamed(name: str, rules: Mapping[str, str]) -> str:
    """The name with the modules that it begins with replaced, by the first pattern that they match.

    >>> renamed("2.fc1.weight", {r"[12]\\.fc1": "se.conv_reduce"})
    'se.conv_reduce.weight'
    """
    for pattern, modules in rules.items():
        if found := re.match(rf"(?:{pattern})\.", name):
            return f"{modules}.{name[found.end() :]}"
    return name
