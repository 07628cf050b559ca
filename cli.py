"""``python cli.py``: the same program as the ``conformergen`` script, from a checkout."""

from conformergen.cli import app

if __name__ == "__main__":
    app()
