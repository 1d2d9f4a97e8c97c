"""Synthetic photographs of hands with exact labels: rig, poses, renderer, data set."""
