"""Drawing: pure functions from tensors to pictures, in colours that everybody can tell apart."""

from simclr_lightning.drawing.embedding_map import EmbeddingMap, Method, check_method, draw_map, two_dimensional
from simclr_lightning.drawing.figure_image import as_image
from simclr_lightning.drawing.neighbour_strips import Neighbours, choose_queries, draw_neighbours, nearest
from simclr_lightning.drawing.palette import COLOURS, MARKERS, Style, style
from simclr_lightning.drawing.similarity_histogram import draw_similarities

__all__ = [
    "COLOURS",
    "MARKERS",
    "EmbeddingMap",
    "Method",
    "Neighbours",
    "Style",
    "as_image",
    "check_method",
    "choose_queries",
    "draw_map",
    "draw_neighbours",
    "draw_similarities",
    "nearest",
    "style",
    "two_dimensional",
]
