"""A page that explains photos, and shows what a job explained. ``torchlime app`` serves it.

Streamlit runs page.py, which uses asking.py, browsing.py and panels.py. The other files do not use
Streamlit: photos.py decodes, classifiers.py answers, explaining.py explains, explained.py draws and
saves, gallery.py reads a folder and what a job found in it, and words.py writes the sentences.
"""
