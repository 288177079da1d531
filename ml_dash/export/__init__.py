"""Export a run to CSV, Parquet or a zip archive."""
