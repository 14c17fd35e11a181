"""The pytest plugin, registered as an entry point: see `penstock.engine.pytest_plugin.plugin`."""

from penstock.engine.pytest_plugin.fake_clock import FakeClock as FakeClock
from penstock.engine.pytest_plugin.plugin import *  # noqa: F403
