"""`python -m tobogganing`: the command line."""

from tobogganing.cli.main import main

if __name__ == "__main__":
    main()
