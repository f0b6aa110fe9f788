"""The command line: ``captum-mda explain`` and ``captum-mda compare``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments of the process ask for.

    Raises:
        SystemExit: Always: 0 when all went well, 1 when some images could not be
            explained, or not by all methods, 2 when the command cannot be run as it was
            given.
    """
    try:
        import typer  # noqa: F401  (asked for here to tell its absence from errors)
    except ModuleNotFoundError:
        sys.exit(
            'captum-mda: the command line needs typer: pip install "captum_mda[cli]"'
        )
    from captum_mda._cli.app import app

    app()


if __name__ == "__main__":
    main()
