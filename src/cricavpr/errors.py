"""Errors that a user can cause. A message is one line: what was expected, what was given and what to do.

The command line ends with exit code 2 after such an error.
"""


class CricaVPRError(Exception):
    """Base class of all errors of this package."""


class InputError(CricaVPRError):
    """An argument, file or folder is invalid."""


class ImageError(CricaVPRError):
    """An image cannot be used. `stage` is the failed step: find, open, decode, position, size or describe."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.stage, str(self))  # lets pickle rebuild the error when a worker process sends it


class WeightsError(CricaVPRError):
    """A weights file is missing, unsafe, or does not match the network."""


class MadeByError(CricaVPRError):
    """Two sets of descriptors were made by different methods, weights or settings, so they cannot be compared."""


class MissingExtraError(CricaVPRError):
    """An optional dependency is not installed; the message names the extra to install."""
