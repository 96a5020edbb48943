"""What FastAPI applications see: the hub as a dependency, the connection, the drop-in manager."""
