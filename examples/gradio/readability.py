"""How readable an English text is. Plain Python, so that it can be tested without the page."""

import re
from dataclasses import dataclass

WORDS_PER_MINUTE = 230
LONG_SENTENCE_WORDS = 25

_SENTENCE = re.compile(r"[^.!?…]+[.!?…]*\s*")
_WORD = re.compile(r"[A-Za-zÀ-ÿ]+(?:['’-][A-Za-zÀ-ÿ]+)*")
_LEVELS = (
    (90, "very easy"),
    (70, "easy"),
    (60, "plain English"),
    (50, "fairly hard"),
    (30, "hard"),
)


@dataclass(frozen=True)
class Report:
    words: int
    sentences: tuple[str, ...]
    score: float
    level: str
    seconds: int

    @property
    def long_sentences(self) -> int:
        return sum(is_long(sentence) for sentence in self.sentences)


def analyse(text: str) -> Report | None:
    """The report on a text; None if there is no word in it."""
    words = _WORD.findall(text)
    if not words:
        return None
    sentences = tuple(part for part in _SENTENCE.findall(text) if _WORD.search(part)) or (text,)
    syllables = sum(map(count_syllables, words))
    score = 206.835 - 1.015 * len(words) / len(sentences) - 84.6 * syllables / len(words)
    score = round(max(0.0, min(100.0, score)), 1)
    level = next((name for least, name in _LEVELS if score >= least), "very hard")
    return Report(len(words), sentences, score, level, round(len(words) / WORDS_PER_MINUTE * 60))


def is_long(sentence: str) -> bool:
    return len(_WORD.findall(sentence)) > LONG_SENTENCE_WORDS


def count_syllables(word: str) -> int:
    """A good guess for English: groups of vowels, without a silent e at the end."""
    groups = len(re.findall(r"[aeiouyà-ÿ]+", word.lower()))
    silent = word.lower().endswith("e") and not word.lower().endswith(("le", "ee")) and groups > 1
    return max(1, groups - silent)
