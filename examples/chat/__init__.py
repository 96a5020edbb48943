"""A chat with rooms and private messages."""
