"""Files that can't be read."""


class UnreadableSourceError(ValueError):
    """A file's content can't be turned into text; the message is the reason, without the file's name."""
