"""`python -m benchmarks [part ...]`: measure, save, print the table."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from benchmarks import fresh, push, throughput, wake
from benchmarks.measure import Row, save
from tests.support.product import running

WITH_PRODUCT = {"wake": wake.run, "push": push.run, "throughput": throughput.run}
PARTS = (*WITH_PRODUCT, "fresh")


def main(wanted: Sequence[str]) -> int:
    unknown = set(wanted) - set(PARTS)
    if unknown:
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for part in wanted or PARTS:
        measured = fresh.run() if part == "fresh" else _with_product(part)
        save(part, measured)
        rows += measured
    Console(width=130).print(_table(rows))
    return 0


def _with_product(part: str) -> list[Row]:
    with TemporaryDirectory() as folder, running(Path(folder) / "data", sleep_time_s="-1") as product:
        return WITH_PRODUCT[part](product)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="Measured against the floor of the same run (medians)")
    for column in ("part", "what", "measured", "floor", "ratio", "goal", "reached"):
        table.add_column(column, justify="right" if column in ("measured", "floor", "ratio") else "left")
    for row in rows:
        floor = f"{row.floor:.3g} {row.unit}" if row.floor else "-"
        ratio = f"{row.ratio:.2f}" if row.floor else "-"
        reached = "yes" if row.reached else "NO"
        table.add_row(row.part, row.what, f"{row.measured:.4g} {row.unit}", floor, ratio, row.goal, reached)
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
