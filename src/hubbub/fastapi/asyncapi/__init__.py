"""The AsyncAPI document of an application, and the page that shows it."""
