"""What a run ran on, so that its numbers can be had again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("semtube", "torch", "transformers", "accelerate", "peft", "tokenizers", "numpy")


def describe_environment() -> dict[str, Any]:
    """Versions, device, threads, and the commit where semtube runs from a checkout."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "versions": versions,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Commit of the checkout semtube is imported from, with `+changes` if it has any."""

    def git(*words: str) -> str:
        where = Path(__file__).parent
        done = subprocess.run(
            ["git", *words], cwd=where, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        if not git("ls-files", "--", Path(__file__).name):
            return None  # a checkout of something else, with semtube installed inside it
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
