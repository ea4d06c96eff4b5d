"""Words for people: how sure an answer is, where it stands, and text that Markdown shows as it is."""

import re

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
# What Streamlit makes an icon or an emoji of even where it is escaped, unless something stands after the colon.
_ICON = re.compile(r":(?=\S)")
_WORD_JOINER = "\u2060"


def literal(text: str) -> str:
    """Write a text so that Streamlit's Markdown, in labels and messages, shows it as it is.

    Args:
        text: Any text, such as a file's name.

    Returns:
        It on one line, with all that Markdown, mathematics, colours, icons and emojis might see in it escaped.
    """
    line = " ".join(text.split())
    return _PUNCTUATION.sub(r"\\\g<0>", _ICON.sub(f":{_WORD_JOINER}", line))
