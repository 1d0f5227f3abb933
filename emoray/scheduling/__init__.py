"""Who may start when and where: arithmetic over resources, without Ray."""
