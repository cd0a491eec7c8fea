"""Baselines that the papers built themselves, and the floor."""
