"""``python -m bigsvd``: the command line."""

from bigsvd.cli import main

if __name__ == "__main__":
    main()
