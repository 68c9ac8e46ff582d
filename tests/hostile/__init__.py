"""Strangers: made-up requests and files against a real, watched server."""
