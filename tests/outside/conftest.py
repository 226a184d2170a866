"""What another project has is imported by the command alone, or not at all."""

collect_ignore = ["their_project", "their_simclr"]
