"""Text made comparable, so that no disguise of a character hides what is said."""

from __future__ import annotations

import re
import unicodedata

# Letters of other alphabets that look Latin; characters that stand for numbers and have no NFKC form.
_LOOKALIKES = str.maketrans(
    "аесорхуіѕјԛѡԁοαεικνρτυχ" + "圆圓円塊錢萬兩貳叁參陸億",
    "aecopxyisjqwdoaeiknptux" + "元元元块钱万两贰三三陆亿",
)
_SIGNS = {"🔟": "10", "💯": "100", "⓪": "0", "⓿": "0", "〇": "零", "○": "0", "💵": "$", "💰": "$", "⁄": "/"}
# A full-width comma ends a clause; a plain one may stand inside a number.
_SIGNS["，"] = ";"
_SIGN = re.compile("|".join(map(re.escape, _SIGNS)))
_INVISIBLE = ("Cf", "Mn", "Me", "Cc", "Co", "Cn")
_CJK = "一-鿿"
# Anything but what most is written in and what needs no look: it may be invisible, or a digit of some script.
_ODD = re.compile(rf"[^\n -~{_CJK}、-〩ぁ-ゖァ-ヿᄀ-ᇿα-ωа-џ]")
# As many characters one becomes at the most: U+FDFA is a sentence.
_LONGEST = 18
# Chinese is written without gaps; whoever makes some hides a word.
_GAP = re.compile(rf"(?<=[{_CJK}])[^\S\n]*[ \-_*·|'\"“”‘’^=+/\\]{{1,3}}[^\S\n]*(?=[{_CJK}])")
_BLANKS = re.compile(r"[^\S\n]+")
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


def fold(text: str) -> str:
    """NFKC, lower case, digits of every script as ASCII, look-alikes as what they look like; nothing that is
    invisible but line feeds, blanks as one space, no gaps inside Chinese."""
    text = _SIGN.sub(lambda match: _SIGNS[match[0]], text)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if text.isascii():
        return _BLANKS.sub(" ", "".join(char for char in text if char >= " " or char in "\t\n"))
    # Decomposed, so that a mark put upon a letter falls off; Chinese has none that would.
    apart = unicodedata.normalize("NFD", _SIGN.sub(lambda match: _SIGNS[match[0]], text))
    plain = unicodedata.normalize("NFC", _ODD.sub(_seen, apart)).translate(_LOOKALIKES)
    return _GAP.sub("", _BLANKS.sub(" ", plain))


def _seen(odd: re.Match[str]) -> str:
    """What is seen of a character: nothing, an ASCII digit, or itself."""
    char = odd[0]
    if unicodedata.category(char) in _INVISIBLE:
        return ""
    digit = unicodedata.digit(char, None)
    return char if digit is None else str(digit)


def bounded(text: str, most: int) -> str:
    """The beginning of a text: at most `most` characters, and not many more once it is folded."""
    text = text[:most]
    if len(unicodedata.normalize("NFKC", text)) <= 2 * most:
        return text
    return text[: most // _LONGEST]


def squeeze(text: str) -> str:
    """Folded text without anything but letters and digits."""
    return "".join(char for char in fold(text) if char.isalnum())


def words_of(text: str) -> list[str]:
    """The words of a text, folded; a Chinese character is a word."""
    return _WORD.findall(fold(text))


def is_chinese(text: str) -> bool:
    """Whether a text has a Chinese character in it."""
    return any("一" <= char <= "鿿" for char in text)
