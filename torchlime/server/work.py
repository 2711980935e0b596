"""Work: what is being computed in the threads of a server, so that a stop can wait for it.

Python ends while its daemon threads still run. A thread that then returns from C++ is ended there,
and C++ answers with "terminate called without an active exception". So a stop ends the work first:
no new work begins, running work is told at its next step, and the stop waits for it.
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
            Stopping: no work may begin any more.
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
        """Call this between two steps of a piece of work.

        Raises:
            Stopping: the work must not go on.
        """
        if self._stopping:
            raise Stopping

    def stepping(self, progress: Callable[[int, int], object] | None) -> Callable[[int, int], None]:
        """``progress`` with a check at each call whether to go on."""

        def step(done: int, total: int) -> None:
            self.step()
            if progress is not None:
                progress(done, total)

        return step

    def stop(self, seconds: float) -> bool:
        """Let no work begin, and wait for running work; False if some still runs after that."""
        with self._changed:
            self._stopping = True
            return self._changed.wait_for(lambda: self._running == 0, seconds)


WORK = Work()  # of this process, in which there is one server
