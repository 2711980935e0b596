"""Work: what is being computed in the threads of a server, so that a stop can wait for it.

Python ends while its daemon threads run on. A thread that then comes back from C++ is ended in the
middle of it, which C++ answers with "terminate called without an active exception". So a stop first
ends the work: no new work begins, what runs is told at its next step, and is waited for.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopping(RuntimeError):
    """The server stops, so nothing more is computed."""

    def __init__(self) -> None:
        super().__init__("the server is being stopped")


class Work:
    """Counts the threads that compute; any thread may call any of its methods."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._stopping = False

    @contextmanager
    def one(self) -> Iterator[None]:
        """A piece of work, which a stop waits for.

        Raises:
            Stopping: it may not begin any more.
        """
        with self._changed:
            self.step()
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def step(self) -> None:
        """To be called between two steps of a piece of work.

        Raises:
            Stopping: it is not to go on.
        """
        if self._stopping:
            raise Stopping

    def stepping(self, progress: Callable[[int, int], object] | None) -> Callable[[int, int], None]:
        """``progress``, which checks at each call whether to go on."""

        def step(done: int, total: int) -> None:
            self.step()
            if progress is not None:
                progress(done, total)

        return step

    def stop(self, seconds: float) -> bool:
        """Let no work begin, and wait for what runs; False where some still runs after that."""
        with self._changed:
            self._stopping = True
            return self._changed.wait_for(lambda: self._running == 0, seconds)


WORK = Work()  # of this process, in which there is one server
