"""A game in which the server is the authority."""
