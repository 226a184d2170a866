"""SimCLR (Chen et al. 2020) for PyTorch Lightning."""
