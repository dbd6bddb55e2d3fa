"""The demonstration: `elmolite demo`."""
