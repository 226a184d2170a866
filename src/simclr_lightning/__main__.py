"""``python -m simclr_lightning`` is the ``simclr`` command."""

from simclr_lightning.console import run

if __name__ == "__main__":
    run()
