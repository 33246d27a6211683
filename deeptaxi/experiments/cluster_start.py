"""Start a Dask scheduler and its workers on a cluster, by Dask's own packages.

    slurm       dask-jobqueue: the scheduler in this process, each worker a job of SLURM
    kubernetes  dask-kubernetes: scheduler and workers as pods, by Dask's operator, which the cluster must have

A file of options is passed on to `dask_jobqueue.SLURMCluster` or `dask_kubernetes.operator.KubeCluster`; workers have
one thread each, for deeptaxi trains with one.
"""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deeptaxi.errors import DeepTaxiError, UsageError, one_line
from deeptaxi.experiments.dask_cluster import silence
from deeptaxi.io.safe_load import read_toml

SLURM = {  # of each job; and the usual port of a dashboard may be that of another cluster
    "cores": 1,
    "processes": 1,
    "memory": "2GB",
    "scheduler_options": {"dashboard_address": ":0"},
}
POD = {"name": "deeptaxi", "worker_command": ["dask", "worker", "--nthreads", "1"]}


def read_options(path: Path) -> dict[str, Any]:
    """Read the TOML file of a cluster's options.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return read_toml(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None


@contextmanager
def start_cluster(kind: str, workers: int, options: Mapping[str, Any]) -> Iterator[str]:
    """Start a scheduler and ask for workers; yield the address, and end both after the block.

    Args:
        kind: ``slurm`` or ``kubernetes``; its package is installed.
        workers: how many to ask for.
        options: of the package's class.

    Raises:
        UsageError: an option is wrong, or this is no computer to start jobs from.
        DeepTaxiError: the cluster refuses.
    """
    with silence():
        cluster = build(kind, options)
        try:
            cluster.scale(workers)
            yield str(cluster.scheduler_address)
        finally:
            cluster.close()


def build(kind: str, options: Mapping[str, Any]) -> Any:
    """Return a cluster without workers; see `start_cluster`."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None  # the destructor of a cluster whose constructor raised raises too
    try:
        return build_slurm(options) if kind == "slurm" else build_kubernetes(options)
    except UsageError:
        raise
    except Exception as error:  # of a program, a network, a client of Kubernetes
        text, wrong = one_line(error, 300) or type(error).__name__, isinstance(error, TypeError | ValueError)
    finally:
        gc.collect()  # now, and not when it is heard
        sys.unraisablehook = hook
    if wrong and "argument" in text:
        raise UsageError(f"--cluster {kind}: an option is wrong: {text}")
    raise DeepTaxiError(f"--cluster {kind}: cannot start a scheduler: {text}")


def build_slurm(options: Mapping[str, Any]) -> Any:
    """Return a scheduler in this process whose workers are jobs of SLURM.

    Raises:
        UsageError: no jobs can be started from here.
    """
    from dask_jobqueue import SLURMCluster  # type: ignore[attr-defined]

    if shutil.which("sbatch") is None:
        raise UsageError("--cluster slurm: there is no sbatch here; run this on a computer that starts jobs of SLURM")
    return SLURMCluster(**{**SLURM, **options})


def build_kubernetes(options: Mapping[str, Any]) -> Any:
    """Return a scheduler on Kubernetes."""
    from dask_kubernetes.operator import KubeCluster

    return KubeCluster(**{**POD, "n_workers": 0, "quiet": True, **options})
