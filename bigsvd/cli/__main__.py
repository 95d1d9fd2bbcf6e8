"""``python -m bigsvd.cli``: the command line, as ``python -m bigsvd``."""

from bigsvd.cli import main

if __name__ == "__main__":
    main()
