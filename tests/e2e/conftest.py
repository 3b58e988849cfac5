"""Fixtures of the whole system; here, so that all files of tests share one."""

from tests.e2e.system_fixture import control, system

__all__ = ["control", "system"]
