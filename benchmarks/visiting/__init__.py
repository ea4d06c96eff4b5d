"""The demo as those who use it find it: a server of its own, visitors that speak Streamlit's protocol."""
