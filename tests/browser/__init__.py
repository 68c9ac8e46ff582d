"""Tests of what a person sees: the real server, the real model, a real Chromium."""
