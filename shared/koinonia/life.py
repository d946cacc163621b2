"""The life of a process: it starts, is ready, drains, stops; and it ends when anything in it fails unexpectedly.

SIGTERM and SIGINT set ``stopping``, and so does SIGUSR1, by which ``koinonia up`` says that a successor has taken over.
A task that raises ends the process with its trace logged and exit status 1:
whoever supervises it starts it again, which is the one repair that always fits.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import structlog
import uvloop

from koinonia import metrics

log = structlog.get_logger()

LAG_INTERVAL_SECONDS = 1.0
LAG_ALARM_SECONDS = 0.25


class Life:
    """What a process's parts share about its state.

    Attributes:
        stopping: set when the process should finish what it has and end.
        not_ready: why the process cannot take work; None when it can.
        replaced: whether another process takes the work already, so that there is time to part from clients politely.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.not_ready: str | None = "starting"
        self.replaced = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed = False

    def spawn(self, name: str, work: Coroutine[Any, Any, Any], *, once: bool = False) -> None:
        """Run ``work`` beside the rest; an error that it does not handle ends the process.

        So does its end before the process stops, cancelled or not, unless it is to run ``once``.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, once=once))

    def ready(self) -> None:
        """The process takes work from now on."""
        if not self.stopping.is_set():
            self.not_ready = None

    def stop(self, reason: str) -> None:
        """Begin to drain."""
        if not self.stopping.is_set():
            log.info("process_draining", reason=reason)
        self.not_ready = "draining"
        self.stopping.set()

    def give_way(self) -> None:
        """Begin to drain: a successor has taken over."""
        self.replaced = True
        self.stop("replaced")

    async def pause(self, seconds: float, wake: asyncio.Event | None = None) -> None:
        """Wait, but no longer than until the process stops or ``wake`` is set (which is cleared)."""
        waiting = [asyncio.ensure_future(self.stopping.wait())]
        if wake is not None:
            waiting.append(asyncio.ensure_future(wake.wait()))
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if wake is not None:
            wake.clear()

    async def finish(self, seconds: float) -> None:
        """Wait for what was spawned to end by itself, and cancel what has not within ``seconds``."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        late = [task for task in self._tasks if not task.done()]
        for task in late:
            log.warning("task_cancelled_at_stop", task=task.get_name())
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    @property
    def failed(self) -> bool:
        """Whether a task ended with an error."""
        return self._failed

    def _ended(self, task: asyncio.Task[Any], *, once: bool) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("task_failed", task=task.get_name(), exc_info=error)
        elif once or self.stopping.is_set():
            return
        else:
            # A library may cancel its waiters: the process must not run on without one of its parts.
            log.error("task_ended", task=task.get_name(), cancelled=task.cancelled())
        self._failed = True
        self.stop(f"task {task.get_name()} failed")


async def watch_loop_lag(life: Life) -> None:
    """Measure how late the event loop runs; a loop that is held up misses heartbeats and deadlines."""
    clock = asyncio.get_running_loop().time
    while not life.stopping.is_set():
        due = clock() + LAG_INTERVAL_SECONDS
        await life.pause(LAG_INTERVAL_SECONDS)
        lag = max(0.0, clock() - due)
        metrics.loop_lag_seconds.record(lag)
        if lag > LAG_ALARM_SECONDS:
            log.warning("event_loop_slow", milliseconds=round(lag * 1000))


def run(main: Callable[[Life], Awaitable[None]]) -> int:
    """Run a process to its end; answers its exit status."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(main))


async def _run(main: Callable[[Life], Awaitable[None]]) -> int:
    life = Life()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, life.stop, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGUSR1, life.give_way)
    try:
        await main(life)
    except asyncio.CancelledError:
        log.exception("process_cancelled")  # nobody here does that: a library has, and the process is not whole
        return 1
    except Exception:
        log.exception("process_failed")
        return 1
    return 1 if life.failed else 0
