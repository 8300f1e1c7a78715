"""Moshi's language model: temporal and depth transformer, one compiled step a frame."""
