"""Where a run comes from: its process, its machine, its code. Nothing here touches a run's folder."""
