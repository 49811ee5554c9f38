"""The board as a page, text, LaTeX and charts."""
