"""A page to look at: a photo goes in, the evidence comes out. ``torchlime app`` serves it.

page.py is what Streamlit runs; what it shows comes from explaining.py, which knows no Streamlit.
"""
