"""How `up` and `down` say what they do: one sentence a step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """For callers that show nothing."""


@contextmanager
def on_terminal() -> Iterator[Progress]:
    """Lines on standard error, each with the seconds since the start; on a terminal a turning mark shows the last
    one until the next.
    """
    console = Console(stderr=True, highlight=False)
    start = time.monotonic()

    def line(text: str) -> None:
        console.print(f"[{time.monotonic() - start:5.1f} s] {text}", markup=False, soft_wrap=True)

    if not console.is_terminal:
        yield line
        return
    with console.status("lab") as status:

        def both(text: str) -> None:
            line(text)
            status.update(text)

        yield both
