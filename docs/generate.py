"""`python -m docs.generate`: write the generated pages anew. A test compares them with what is committed."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from docs import make_state_machine
from orchestrator import settings

RUN = Path(__file__).with_name("run.md")
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"


def settings_rows() -> Iterator[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, in the order of the class; meanings are its field docstrings."""
    tree = ast.parse(inspect.getsource(settings.Settings)).body[0]
    assert isinstance(tree, ast.ClassDef)
    meanings: dict[str, str] = {}
    for field, doc in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            meanings[field.target.id] = " ".join(str(doc.value.value).split())
    for item in fields(settings.Settings):
        default = "`~/.local/share/dormouse`" if item.name == "data" else _shown(item.default)
        yield f"DORMOUSE_{item.name.upper()}", default, meanings[item.name]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "`1`" if value else "`0`"
    return f"`{value}`" if value != "" else ""


def run_page(text: str) -> str:
    """docs/run.md with its table of settings made from the code."""
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    rows = "".join(f"| `{name}` | {default} | {meaning} |\n" for name, default, meaning in settings_rows())
    return f"{before}{BEGIN}\n| variable | default | meaning |\n|---|---|---|\n{rows}\n{END}{after}"


def main() -> None:
    make_state_machine.PAGE.write_text(make_state_machine.page())
    RUN.write_text(run_page(RUN.read_text()))


if __name__ == "__main__":
    main()
