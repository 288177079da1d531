"""What runs in the writer process. The training process never imports this package, except to run it on a thread."""
