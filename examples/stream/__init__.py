"""An answer that is written word by word, and that survives a reload."""
