"""Optional dependencies: if one is missing, one line says which extra to install."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cricavpr.errors import MissingExtraError


@contextlib.contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Import optional packages inside this block.

    Args:
        name: the extra of this package that installs them.
        what: the feature that needs them; it begins the message.

    Raises:
        MissingExtraError: an import failed.

    Example:
        >>> with extra("plots", "drawing a figure"):
        ...     import no_such_package
        Traceback (most recent call last):
        cricavpr.errors.MissingExtraError: drawing a figure needs the extra 'plots': pip install 'cricavpr[plots]'
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"{what} needs the extra {name!r}: pip install 'cricavpr[{name}]'") from error
