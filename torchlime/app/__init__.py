"""A page to look at: a photo goes in, the evidence comes out. ``torchlime app`` serves it.

page.py is what Streamlit runs. The other files know no Streamlit: photos.py decodes, classifiers.py
answers, explaining.py explains, explained.py draws and saves, words.py says it.
"""
