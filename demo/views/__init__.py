"""The demo's pages, thin Streamlit code over `demo.core`."""
