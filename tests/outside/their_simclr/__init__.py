"""What another project adds to simclr_lightning, each part in a file of its own."""
