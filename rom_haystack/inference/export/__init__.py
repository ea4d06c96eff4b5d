"""Graphs of a checkpoint for other engines than torch: what an export folder holds, and how one is made."""
