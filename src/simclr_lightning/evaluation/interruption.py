"""What happens to figures that are finished when something prevents the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def kept_if_interrupted(finished: Sized, write: Callable[[Path], None], path: Path) -> Iterator[None]:
    """Write what is finished when an error or a signal ends the block, and let the process fail.

    Lightning turns Ctrl-C, and a signal to end, into a silent exit, the latter even into a successful one.

    Args:
        finished: grows while figures are measured; nothing is written while it is empty.
        write: writes it into a file.
        path: of that file. It must be another one than that of a complete run, whose figures it would replace.

    Raises:
        SystemExit: with status 1, if interrupted.
    """
    try:
        yield
    except BaseException as error:
        if finished:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
            print(f"Interrupted: the figures that were finished are in {path}.", flush=True)
        else:
            print("Interrupted before the first figure was finished: nothing is written.", flush=True)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise SystemExit(1) from error
        raise
