"""What runs in the writer process. The training process imports it only to run it on a thread."""
