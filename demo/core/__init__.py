"""What the demo does, without its user interface; nothing here imports Streamlit."""
