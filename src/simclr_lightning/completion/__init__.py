"""``simclr completion``: commands, options and names, completed by the shell; nothing heavy is imported for it."""

from simclr_lightning.completion.shells import completion

__all__ = ["completion"]
