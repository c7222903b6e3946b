"""What Marque raises for what its users bring: the message names the cause and the next step."""


class MarqueError(ValueError):
    """Something that a user gave cannot be used; commands print the message and exit with 1."""


class PhotoError(MarqueError):
    """A photo that cannot be used."""


class CheckpointError(MarqueError):
    """A checkpoint that cannot be opened, or is not what it should be."""


class DataError(MarqueError):
    """A dataset, or a file that tells of one, that cannot be used."""
