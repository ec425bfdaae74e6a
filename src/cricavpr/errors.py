"""Every error that a user can cause: one clear line (what, which, what now), exit code 2, never a traceback."""


class CricaVPRError(Exception):
    """Base of all errors of this package. The message says what, which, and what to do now."""


class InputError(CricaVPRError):
    """An argument, a file or a folder cannot be used as it is."""


class ImageError(CricaVPRError):
    """One image cannot be used. `stage` says where it failed: find, open, decode, position or size."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.stage, str(self))  # survives the way back from a worker process


class WeightsError(CricaVPRError):
    """A weights file is missing, unsafe, or does not fit the network."""


class MadeByError(CricaVPRError):
    """Two sets of descriptors were not made the same way, so comparing them would be meaningless."""


class MissingExtraError(CricaVPRError):
    """An optional dependency is not installed; the message names the extra that brings it."""
