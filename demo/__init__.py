"""The demo: ask your documents in a browser, see the quote. Run by `streamlit run demo/app.py`."""
