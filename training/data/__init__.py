"""Question answering data, one module per format."""
