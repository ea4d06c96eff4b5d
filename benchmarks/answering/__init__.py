"""The inference benchmark: ROM beside the stock components and DPR's shape, in speed, memory and quality."""
