"""Another project, which uses parts of simclr_lightning in training loops of its own."""
