"""Training and evaluation of ROM models; run as `python -m training`."""
