"""Recipes that make the embedded models from nothing: run them to train the files beside them again."""
