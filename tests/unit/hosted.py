"""Hosts as they are declared, and what Serve says of them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from registry.refs import VersionRef
from serving.hosts import HostSpec, HostStatus
from serving.hosts.serve import (
    Application,
    HostOptions,
    application_config,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = VersionRef.parse("digits/1"), VersionRef.parse("digits/2")
OPTIONS = HostOptions("127.0.0.1", 8000, Path("/models"))


def spec(ref=ONE, **changes):
    return replace(HostSpec(ref, f"file:///{ref}", f"sha256:{ref}"), **changes)


def status(state, declared=None, **changes):
    return replace(HostStatus(declared or spec(), state, 0, "", NOW), **changes)


def config(declared):
    return application_config(declared, OPTIONS)


def application(serve_status="RUNNING", running=1, *, declared=None, message="", pending=0):
    return Application(serve_status, message, running, pending, config(declared or spec()))
