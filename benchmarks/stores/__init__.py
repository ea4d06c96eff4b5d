"""Parts of the document-store benchmark: what is searched, who is measured, and how."""
