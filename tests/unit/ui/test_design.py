"""The tokens of the style sheet: every pair of text and ground can be read, in light and in dark."""

import re

import pytest

from orchestrator.web.ui.rendering import HERE
from orchestrator.web.ui.text import COLOURS
from orchestrator.web.ui.words import OUTCOMES, WORDS

SHEET = (HERE / "static" / "dormouse.css").read_text()
PAIRS = [
    *((text, ground) for text in ("text", "muted", "accent") for ground in ("ground", "surface")),
    ("text", "raised"), ("muted", "raised"), ("on-accent", "accent"),
    *((tone, f"{tone}-soft") for tone in ("ok", "busy", "asleep", "error", "off")), ("text", "error-soft"),
]  # fmt: skip


def tokens(scheme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", SHEET, re.DOTALL)[:2]
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", light))
    return found | (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", dark)) if scheme == "dark" else {})


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_contrast_is_enough_for_small_text(scheme: str, text: str, ground: str) -> None:
    found = tokens(scheme)
    bright, dim = sorted((luminance(found[text]), luminance(found[ground])), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 4.5


def test_every_colour_and_tone_has_its_class() -> None:
    for colour in COLOURS:
        assert f".from-{colour} " in SHEET
        assert f".to-{colour} " in SHEET
    tones = {words.tone for words in WORDS.values()} | {tone for _, tone in OUTCOMES.values()}
    for tone in tones - {"off"}:
        assert f".badge.{tone} " in SHEET


def test_sheet_asks_nobody_else_for_anything() -> None:
    assert "url(" not in SHEET
    assert "@import" not in SHEET
