"""Empirical orthogonal functions of labelled fields: xarray in, xarray out."""
