"""What `tiltyard up`, `down` and `doctor` print; each returns its exit status."""

import asyncio
import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from serving.local.doctor import examine
from serving.local.system import down as stop_system
from serving.local.system import up as start_system
from serving.settings import Settings, running_settings


def up(*, as_json: bool, edges: int | None = None) -> int:
    """Start the system; what is ready is said as soon as it is."""
    words = Console(stderr=True, highlight=False)
    settings = Settings() if edges is None else Settings(edges=edges)
    with words.status("Starting Redis, Ray, edge and control ...") as status:

        def ready(part: str, seconds: float) -> None:
            words.print(f"  {part} is ready after {seconds:.1f} s")
            status.update("Waiting for the rest ...")

        settings = asyncio.run(start_system(settings, ready))
    edge_urls = {edge.edge_name: edge.edge_url for edge in settings.local_edges}
    others = {
        "control": settings.control_url,
        "ray": settings.ray_dashboard_url,
        "redis": settings.redis_url,
    }
    if as_json:
        places = {"edge": settings.edge_url, "edges": edge_urls, **others}
        print(json.dumps({**places, "state": str(settings.state_dir)}))  # noqa: T201
        return 0
    out = Console(highlight=False)
    out.print("Tiltyard is up.")
    for name, place in {**edge_urls, **others, "files": settings.state_dir}.items():
        out.print(f"  {name:8} {place}")
    out.print("Next: `tiltyard deploy MODEL VERSION`, or `tiltyard status`.")
    return 0


def down(*, as_json: bool) -> int:
    """Stop the system, if it runs."""
    words = Console(stderr=True, highlight=False)
    with words.status("Stopping edge, control, Ray and Redis ..."):
        stopped = asyncio.run(stop_system(running_settings()))
    if as_json:
        print(json.dumps({"stopped": stopped}))  # noqa: T201
    else:
        Console().print("Tiltyard is down." if stopped else "Nothing was running.")
    return 0


def doctor(*, as_json: bool) -> int:
    """Show every check; 1 if anything is not well."""
    checks = asyncio.run(examine(running_settings()))
    well = all(check.well for check in checks)
    if as_json:
        print(json.dumps({"well": well, "checks": [asdict(check) for check in checks]}))  # noqa: T201
        return 0 if well else 1
    table = Table("", "", "", "", box=None, show_header=False)
    table.columns[2].overflow = "fold"
    for check in checks:
        mark = "[green]ok[/]" if check.well else "[red]trouble[/]"
        table.add_row(mark, check.name, check.found, "" if check.well else check.advice)
    Console().print(table)
    return 0 if well else 1
