"""Notifications that reach all devices of a user."""
