"""``python -m conformergen``: the same program as the ``conformergen`` script."""

from conformergen.cli import app

if __name__ == "__main__":
    app()
