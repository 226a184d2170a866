"""``python -m simclr_lightning`` is the ``simclr`` command."""

from simclr_lightning.cli import main

if __name__ == "__main__":
    main()
