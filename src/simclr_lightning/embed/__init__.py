"""``simclr embed``: the features of any set of pictures, as one file for other programs."""

from simclr_lightning.embed.embed import embed_pictures

__all__ = ["embed_pictures"]
