"""Captum's perturbation methods on torchlime, in place of ``captum.attr``.

The call layer, which all methods share: arguments.py, feature_masks.py and targets.py read what
Captum takes; perturbed.py makes the inputs of a design [B,N,F]; calling.py and scoring.py call the
forward function.
"""
