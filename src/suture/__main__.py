"""``python -m suture``: the command line, where the script is not on the path."""

from suture.cli import main

if __name__ == "__main__":
    main()
