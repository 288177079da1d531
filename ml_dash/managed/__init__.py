"""The files of a managed run (``MLRun``): ``config.toml``, ``metrics.toml`` and the journals behind them."""
