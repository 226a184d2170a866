"""The parts of gpu_check.py, a file each; what they share is in ``check.py`` and ``timing.py``."""
