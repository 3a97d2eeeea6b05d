"""Upgrade: whether the drivers may be upgraded now, from reads alone, and whether all is back afterwards.

Judged only where a run is asked for it: before by ``--gpu-pre-upgrade``, after by ``--gpu-post-upgrade`` (the feature
post-upgrade). Other profiles judge a part of the same questions, and their requirements are selected with this profile.
"""
