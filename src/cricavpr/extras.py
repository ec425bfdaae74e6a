"""Imports of optional packages. If a package is missing, the error says which extra of CricaVPR to install."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cricavpr.errors import MissingExtraError


@contextlib.contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Turn a failed import in this block into an error that says which extra to install.

    Args:
        name: the extra of CricaVPR that installs the imported packages, such as "plots".
        what: the feature that needs the packages, such as "drawing a figure"; the error message begins with it.

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
