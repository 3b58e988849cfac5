"""How long going back takes while users ask, and whether any of them notices."""

from bench.load import Target, finished
from bench.questions import Dialect
from bench.rounds import Tell
from bench.servers import Field
from bench.tiltyard import MODEL, PATH, Tiltyard

CONNECTIONS = 32


def drilled(field: Field, system: Tiltyard, *, times: int, tell: Tell) -> dict[str, float | int]:
    """Drill so many times under load on every edge."""
    question = field.questions["small"][Dialect.OPEN_INFERENCE]
    share = max(1, CONNECTIONS // len(system.edges))
    answers = failures = 0
    # Loads of a few seconds, one after another, until the drills are over.
    with system.doing("drill", MODEL, "--times", str(times)) as drill:
        while not drill.is_over():
            started = [
                field.generator.start(
                    Target("edge", url, (PATH,)), question, connections=share, seconds=2
                )
                for url in system.edges
            ]
            for each in started:
                load = finished(each, within=60)
                answers += load.answers
                failures += load.failures
        found = drill.result()
    spread = found["rollback"]
    tell(
        f"{found['done']} rollbacks with {len(system.edges)} edge(s): p50 {spread['p50']:.1f} ms, "
        f"p99 {spread['p99']:.1f} ms; {answers:,} requests meanwhile, {failures} failed"
    )
    return {
        "p50": round(spread["p50"], 2),
        "p95": round(spread["p95"], 2),
        "p99": round(spread["p99"], 2),
        "max": round(spread["max"], 2),
        "drills": found["done"] - found["failed"],
        "failed_drills": found["failed"],
        "requests": answers,
        "failed_requests": failures,
    }
