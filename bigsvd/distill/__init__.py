"""Distillation: a student learnt from factors predicts those of new data with gaps, without their SVD."""
