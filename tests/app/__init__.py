"""Tests of the front ends, without a browser and without weights."""
