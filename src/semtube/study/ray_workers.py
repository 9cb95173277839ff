"""Jobs on a Ray cluster, or on Ray's workers on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from semtube.errors import UserError
from semtube.study.job import Job, Outcome, do_job, lost
from semtube.study.local_workers import MAX_LOST, TICK_SECONDS


class RayWorkers:
    """Ray tasks, one a job; Ray repeats those whose worker or node is lost.

    All nodes must see the study's folder and the data under the same paths; a model's folder is
    given by its absolute path.

    Args:
        num_workers: jobs at once on this machine, where Ray is started here.
        address: of a running cluster, such as `auto`; unset to start Ray here.
        num_threads: CPUs that a job needs.
        num_gpus: GPUs (or a share of one) that a job needs.
    """

    def __init__(
        self,
        num_workers: int,
        address: str | None = None,
        *,
        num_threads: int = 1,
        num_gpus: float = 0,
    ) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise UserError("--ray needs Ray: pip install 'semtube[ray]'") from error
        self._ray = ray
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            if address is None:
                ray.init(num_cpus=num_workers * num_threads, include_dashboard=False, **quiet)
            else:
                ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"--ray {address or ''}: {str(error).splitlines()[0]}") from error
        self._needs = {"num_cpus": num_threads, "num_gpus": num_gpus}

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome] | None]:
        """As LocalWorkers.run."""
        ray = self._ray
        task = ray.remote(**self._needs, max_retries=MAX_LOST)(do_job)
        pending = {task.remote(job): job for job in jobs}
        try:
            while pending:
                ready, _ = ray.wait(list(pending), timeout=TICK_SECONDS)
                for reference in ready:
                    job = pending.pop(reference)
                    yield job, self._outcome(reference, job)
                yield None
        finally:
            for reference in pending:
                ray.cancel(reference, force=False)

    def _outcome(self, reference: Any, job: Job) -> Outcome:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return lost(job, f"its worker was lost: {str(error).splitlines()[0]}")

    def stop(self) -> None:
        """Leave the cluster; one started here ends."""
        self._ray.shutdown()
