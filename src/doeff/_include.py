"""Where the C header is."""

from __future__ import annotations

from pathlib import Path


def get_include() -> str:
    """The directory that has ``doeff.h``, for a compiler's ``-I``.

    Raises FileNotFoundError if this installation was made without the header.

    >>> import doeff, os
    >>> os.path.exists(os.path.join(doeff.get_include(), "doeff.h"))
    True
    """
    package = Path(__file__).resolve().parent
    # An editable installation runs from the source tree, where the header is not in the package.
    for directory in (package / "include", package.parents[1] / "include"):
        if (directory / "doeff.h").is_file():
            return str(directory)
    raise FileNotFoundError(f"doeff.h is not in {package / 'include'}")
