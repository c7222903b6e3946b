"""Text of strangers, such as the names of files, made safe to print."""

import unicodedata


def printable(text: object, breaks: bool = False) -> str:
    """Text without what a terminal would obey: control and direction characters are spelled out.

    Args:
        breaks: line breaks stay, as in the name of a file.
    """
    return "".join(
        character
        if unicodedata.category(character) not in ("Cc", "Cf") or (breaks and character == "\n")
        else character.encode("unicode_escape").decode()
        for character in str(text)
    )
