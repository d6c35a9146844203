"""A progress bar on stderr that is there only while something is being made.

It wraps rich; where stderr is not a terminal nothing is drawn.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from train.data.needs import needs


@contextmanager
def bar(text: str, total: int, *, count_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Shows `text`, a bar, done/total and the time left; yields `advance(n)`, which may be called from any thread."""
    with needs("train"):
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    amount = DownloadColumn() if count_bytes else MofNCompleteColumn()
    columns = ("{task.description}", BarColumn(), amount, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=total)
        yield lambda n: progress.advance(task, n)
