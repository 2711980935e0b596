"""masks, scores, weights → Fit."""
