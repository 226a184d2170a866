"""What the figures of an evaluation say, in words, where pre-training has not paid."""

from __future__ import annotations

from collections.abc import Sequence

from simclr_lightning.evaluation.candidates import AS_IT_IS, PRETRAINED, RANDOM, RAW_PIXELS
from simclr_lightning.evaluation.report import Result

_FINE_TUNED = "finetune@"  # the beginning of its name
_MEANS = {
    RAW_PIXELS: (
        "so far it tells less than the pictures themselves. Usually it has been trained too briefly, and a small set "
        "has few steps in an epoch: train longer (--trainer.max_epochs 10 times as many), or in smaller batches "
        "(--data.batch_size). If that does not help, the views hide what tells the classes apart: look at them in the "
        "run's folder."
    ),
    RANDOM: (
        "training has not only been short, it has made the encoder worse. Usually it has collapsed or diverged: see "
        "whether train/loss is at chance and train/contrast_top1 near 0, and lower the learning rate "
        "(--model.learning_rate); or the views hide what tells the classes apart."
    ),
}


def verdicts(results: Sequence[Result]) -> list[str]:
    """Say by which protocols raw pixels, or a random encoder, are better than the encoder that was trained.

    Higher figures count as better, to the digit that the table shows. Fine-tuning is left out: from random weights it
    is training from scratch, which many labels make the better choice.

    Example:
        >>> figures = {"raw pixels": 73.2, "pre-trained encoder": 71.0}
        >>> (said,) = verdicts([Result(encoder, "knn", 10_000, [figure]) for encoder, figure in figures.items()])
        >>> said.partition(":")[0]
        'Raw pixels are better than the pre-trained encoder by knn (73.2 against 71.0)'

    Args:
        results: of all encoders, by all protocols.

    Returns:
        A sentence or two for each of the two that is better; none where nothing was trained.
    """
    figures = {(result.encoder, result.protocol): round(result.accuracy, 1) for result in results}
    judged = next((name for name in (PRETRAINED, AS_IT_IS) if any(name == encoder for encoder, _ in figures)), None)
    said = []
    for rival, means in _MEANS.items():
        ahead = [
            f"{protocol} ({figure} against {figures[judged, protocol]})"
            for (encoder, protocol), figure in figures.items()
            if encoder == rival
            and judged is not None
            and not protocol.startswith(_FINE_TUNED)
            and figure > figures.get((judged, protocol), figure)
        ]
        if ahead:
            who = f"{rival[0].upper()}{rival[1:]} are" if rival == RAW_PIXELS else f"The {rival} is"
            said.append(f"{who} better than the {judged} by {', '.join(ahead)}: {means}")
    return said
