"""What hangs on an experiment: logs, params, metrics, tracks, files, frames. Each call copies, publishes and returns."""
