"""Three small applications on Hubbub, and one that mounts them all."""
