"""`python -m assets` is the `rotoscope` command."""

from assets.cli import main

if __name__ == "__main__":
    main()
