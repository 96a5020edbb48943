"""The example applications and the tutorial's page, in a real browser."""
