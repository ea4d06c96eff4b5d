"""Parts of the fault test: what is done to a store, where it is killed, and what must be there afterwards."""
