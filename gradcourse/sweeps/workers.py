"""Workers: several stacks at a time, each in a thread of its own that computes with one torch thread.

Threads that share one product wait for each other at its end; where another program takes a processor for a while, all
of them wait, and a step takes many times as long. Threads with work of their own don't, each keeps its own data in its
processor's cache, and the digits are the same with any number of them.
"""

import queue
import threading

import torch


class Stopped(Exception):
    """A worker was told to stop."""


class Workers:
    """Works through jobs.

    Args:
        jobs: functions, called with `tell`; what they hand to `tell` comes out of `results`. After an interrupt `tell`
            raises Stopped.
        number: of threads.
    """

    def __init__(self, jobs, number):
        self._jobs, self._told = queue.SimpleQueue(), queue.SimpleQueue()
        for job in jobs:
            self._jobs.put(job)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(number, len(jobs)))]

    def results(self):
        """Yield what the jobs tell, in the order in which it comes; when left early, stop them.

        Raises:
            Exception: that a job has raised, after the others were stopped.
        """
        threads = torch.get_num_threads()
        for thread in self._threads:
            thread.start()
        try:
            yield from self._until_all_ended()
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
            torch.set_num_threads(threads)  # a worker's number would be that of threads started later

    def _until_all_ended(self):
        working = len(self._threads)
        while working:
            try:
                told = self._told.get(timeout=0.1)  # no longer: on Windows a wait can't be interrupted
            except queue.Empty:
                continue
            if isinstance(told, _End):
                working -= 1
                if told.error is not None:
                    raise told.error
            else:
                yield told

    def _work(self):
        error = None
        try:
            torch.set_num_threads(1)
            while not self._stop.is_set():
                self._jobs.get_nowait()(self._tell)
        except (queue.Empty, Stopped):
            pass
        except BaseException as caught:
            error = caught
        self._told.put(_End(error))

    def _tell(self, result):
        if self._stop.is_set():
            raise Stopped
        self._told.put(result)


class _End:
    """What a worker tells last."""

    def __init__(self, error):
        self.error = error
