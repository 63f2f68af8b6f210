"""`python -m radiobject_assets.cli`: the command, where its script is not on the path."""

from radiobject_assets.cli import main

if __name__ == "__main__":
    main()
