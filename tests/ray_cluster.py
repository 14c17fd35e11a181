"""A real Ray cluster of two nodes on this machine, for tests that need one: two raylets and what belongs to them."""

from __future__ import annotations

import os
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

KEY_IN_THE_ENVIRONMENT = "sk-of-the-workers-0123456789"


def skip_without_ray() -> None:
    """Skip the test where Ray is not installed."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'penstock[ray]'")


class TwoNodes:
    """Two nodes with room for two workers each.

    Their processes have a key in their environment that this process has not.
    """

    def __init__(self) -> None:
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
        os.environ["OPENAI_API_KEY"] = KEY_IN_THE_ENVIRONMENT
        options = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 * 1024 * 1024}
        self._ray: Any = import_module("ray")
        cluster_utils: Any = import_module("ray.cluster_utils")
        self._cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=options)
        self._cluster.add_node(num_cpus=2, object_store_memory=100 * 1024 * 1024)
        del os.environ["OPENAI_API_KEY"]

    @property
    def address(self) -> str:
        address: str = self._cluster.address
        return address

    @property
    def logs(self) -> Path:
        """Where all processes of Ray write what they have to say."""
        return Path(self._cluster.head_node.get_session_dir_path()) / "logs"

    def add_node(self, **resources: float) -> Any:
        """A third node, with resources of its own."""
        return self._cluster.add_node(num_cpus=2, resources=resources, object_store_memory=100 * 1024 * 1024)

    def remove_node(self, node: Any) -> None:
        """Take a node away, with all that is on it. It says so: one that is killed Ray misses after half a minute."""
        self._cluster.remove_node(node, allow_graceful=True)

    def until_free(self, cpus: float) -> None:
        """Wait until so many CPU are free: those of actors that were ended are so a little later."""
        was_initialized = self._ray.is_initialized()
        if not was_initialized:
            self._ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        try:
            for _ in range(600):
                if self._ray.available_resources().get("CPU", 0) >= cpus:
                    return
                time.sleep(0.05)
            raise AssertionError(f"{self._ray.available_resources()} is all that is free")
        finally:
            if not was_initialized:
                self._ray.shutdown()

    def stop(self) -> None:
        if self._ray.is_initialized():
            self._ray.shutdown()
        self._cluster.shutdown()


def until_gone(pid: int) -> None:
    """Wait until a process has ended."""
    for _ in range(1000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} lives on")
