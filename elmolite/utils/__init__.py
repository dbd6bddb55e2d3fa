"""Files, folders, serialization and small helpers that every layer uses."""
