"""A held request that wakes a sample, against the bare start of the same app; the two take turns."""

import time

from benchmarks.measure import Row, bare_start, built, median, sample
from tests.support.product import Product, wait_for

ROUNDS = 7


def run(product: Product) -> list[Row]:
    rows = []
    for name in ("gradio", "streamlit"):
        sample(product, name)
        app = built(product, name)
        bare_start(app)  # Warm the page cache for both.
        woken, floor = [], []
        for _ in range(ROUNDS):
            floor.append(bare_start(app))
            woken.append(_held_wake(product, name))
        rows.append(_row(name, woken, floor))
    return rows


def _held_wake(product: Product, name: str) -> float:
    product.sleep(name)
    wait_for(lambda: product.api("GET", f"/api/spaces/admin/{name}/runtime").json()["stage"] == "SLEEPING", 30, "sleep")
    time.sleep(1.0)  # Let the stopped replica end, so that it does not share the cores.
    began = time.monotonic()
    answer = product.app(name)
    took = time.monotonic() - began
    assert answer.status_code == 200, answer.text[:500]
    return took


def _row(name: str, woken: list[float], floor: list[float]) -> Row:
    measured, bottom = median(woken), median(floor)
    gradio = name == "gradio"
    goal = "0.8 x floor" if gradio else "floor + 0.1 s"
    limit = 0.8 * bottom if gradio else bottom + 0.1
    return Row(
        "wake", f"held request wakes {name}", measured, bottom, "s", goal, measured <= limit, tuple(woken), tuple(floor)
    )
