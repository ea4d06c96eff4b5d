"""Inference engines behind one interface (`base.Backend`). Import an engine's own module; it brings the engine in."""
