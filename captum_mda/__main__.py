"""``python -m captum_mda``: the command line."""

from captum_mda.cli import main

if __name__ == "__main__":
    main()
