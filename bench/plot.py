"""Results as a picture: throughput of everybody, by connections, for both sizes."""

from pathlib import Path

from bench.results import Results
from bench.rounds import CONNECTIONS
from bench.show import SIZES, TITLES

OURS, ITS_LIMIT, OTHERS = "#c2410c", "#64748b", "#94a3b8"


def draw(results: Results, path: Path) -> None:
    """Write the picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [name for name in TITLES if name in results["throughput"]][::-1]
    figure, rows = plt.subplots(
        len(SIZES), len(CONNECTIONS), figsize=(14, 0.75 * len(names) + 2.5), sharey=True
    )
    for axes, (size, title) in zip(rows, SIZES.items(), strict=True):
        for axis, connections in zip(axes, CONNECTIONS, strict=True):
            for place, name in enumerate(names):
                found = results["throughput"][name].get(size, {}).get(str(connections))
                if not found:
                    continue
                rate = found["per_second"]
                apart = [[rate["median"] - rate["min"]], [rate["max"] - rate["median"]]]
                color = OURS if name == "edge" else ITS_LIMIT if "bare" in name else OTHERS
                axis.barh(
                    place, rate["median"], xerr=apart, color=color, capsize=2, ecolor="#334155"
                )
                axis.text(rate["max"], place, f"  {rate['median']:,.0f}", va="center", fontsize=8)
            axis.set_yticks(range(len(names)), [TITLES[name] for name in names], fontsize=9)
            axis.set_title(
                f"{title}, {connections} connection{'s' * (connections > 1)}", fontsize=10
            )
            axis.margins(x=0.18)
            axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("right answers a second: median of the rounds, least to most", fontsize=10)
    cores, rounds = results["machine"].get("cores"), results["rounds"]
    figure.suptitle(f"One scikit-learn model, {cores} cores, {rounds} rounds", fontsize=13)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
