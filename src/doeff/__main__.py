"""``python -m doeff``: the same as the ``doeff`` command."""

import sys

from doeff.cli import main

if __name__ == "__main__":
    sys.exit(main())
