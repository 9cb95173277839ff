"""Jobs in processes on this machine, which may be killed at any moment."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from semtube.study.job import Job, Outcome, do_job, lost

#: How often a job is given to a new worker after its worker was lost.
MAX_LOST = 3
#: Seconds between two looks at the workers.
TICK_SECONDS = 0.5

_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    gpu: str | None
    job: Job | None = None


class LocalWorkers:
    """Worker processes; each takes one job after the other.

    Args:
        num_workers: how many.
        gpus: device numbers; worker i sees gpus[i % len(gpus)] only. Empty for none.
    """

    def __init__(self, num_workers: int, gpus: Sequence[str] = ()) -> None:
        self.num_workers = num_workers
        self._gpus = list(gpus)
        self._workers: list[_Worker] = []

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome] | None]:
        """Do jobs; gives each with its outcome as it ends, and None at every look in between.

        A worker that is lost (killed, out of memory) is replaced and its job given out again, three
        times at most.
        """
        waiting, num_lost = deque(jobs), dict.fromkeys((job.run for job in jobs), 0)
        try:
            while waiting or any(worker.job for worker in self._workers):
                self._give_out(waiting)
                busy = [worker for worker in self._workers if worker.job]
                ready = wait([w.pipe for w in busy], timeout=TICK_SECONDS)
                for worker in busy:
                    if worker.pipe in ready:
                        yield from self._take(worker, waiting, num_lost)
                yield None
        finally:
            self.stop()

    def _give_out(self, waiting: deque[Job]) -> None:
        idle = [worker for worker in self._workers if worker.job is None]
        while waiting and len(self._workers) < self.num_workers:
            idle.append(self._start())
        for worker in idle:
            if waiting:
                worker.job = waiting.popleft()
                with contextlib.suppress(OSError):  # lost while idle; seen when it is waited for
                    worker.pipe.send(worker.job)

    def _take(
        self, worker: _Worker, waiting: deque[Job], num_lost: dict[str, int]
    ) -> Iterator[tuple[Job, Outcome]]:
        job = worker.job
        assert job is not None
        try:
            outcome = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            self._workers.remove(worker)
            num_lost[job.run] += 1
            if num_lost[job.run] <= MAX_LOST:
                waiting.appendleft(job)
                return
            code = worker.process.exitcode
            outcome = lost(
                job,
                f"its worker was lost {num_lost[job.run]} times (last exit status {code}): killed, "
                "perhaps for want of memory; a smaller micro_batch_size needs less",
            )
        worker.job = None
        yield job, outcome

    def _start(self) -> _Worker:
        here, there = _SPAWN.Pipe()
        # The one that fewest workers have: a lost worker's successor takes its place.
        taken = Counter(worker.gpu for worker in self._workers)
        gpu = min(self._gpus, key=lambda gpu: taken[gpu], default=None)
        process = _SPAWN.Process(target=_work, args=(there, gpu), daemon=True)
        process.start()
        there.close()  # so that a lost worker's end of the pipe is seen
        worker = _Worker(process, here, gpu)
        self._workers.append(worker)
        return worker

    def stop(self) -> None:
        """End all workers; a run in training saves a checkpoint first."""
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()


def _work(pipe: Connection, gpu: str | None) -> None:
    """A worker: one job after the other until the runner is gone."""
    # Before torch is loaded: idle OpenMP threads would spin on the other workers' cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_end_with_runner, daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        outcome = do_job(job)
        pipe.send(outcome)
        if outcome.status == "interrupted":
            return


def _end_with_runner() -> None:
    """A runner that is killed takes its workers with it, or they would hold its runs."""
    runner = multiprocessing.parent_process()
    assert runner is not None
    runner.join()
    os._exit(1)
