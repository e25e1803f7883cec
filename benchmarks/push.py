"""The second push of an app whose requirements did not change: from `git push` to the new version being served."""

import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.measure import EXAMPLES, Row, bare_start, built, median, sample
from tests.support.product import Product, wait_for

ROUNDS = 5


def run(product: Product) -> list[Row]:
    sample(product, "gradio")
    app = built(product, "gradio")
    bare_start(app)
    took, floor = [], []
    for number in range(ROUNDS):
        floor.append(bare_start(app))
        took.append(_push_again(product, f"{number}-{time.time():.0f}"))
    measured, bottom = median(took), median(floor)
    reached, goal = measured <= 1.5 * bottom + 1.0, "1.5 x floor + 1 s"
    samples = tuple(took), tuple(floor)
    return [Row("push", "second push is served", measured, bottom, "s", goal, reached, *samples)]


def _push_again(product: Product, mark: str) -> float:
    """Change the title that the app shows, push, and poll the app until it shows the new one."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "app"
        shutil.copytree(EXAMPLES / "gradio", folder, ignore=shutil.ignore_patterns("__pycache__"))
        source = folder / "app.py"
        source.write_text(f"MARK = {mark!r}\n" + source.read_text())
        before = product.runtime("gradio").get("sha")
        began = time.monotonic()
        product.push("gradio", folder, message=mark)

    def new_one() -> bool:
        now = product.runtime("gradio")
        return now["stage"] == "RUNNING" and now.get("sha") != before

    wait_for(new_one, 120, "the new revision", every_s=0.05)
    assert product.app("gradio").status_code == 200
    return time.monotonic() - began
