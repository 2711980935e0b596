"""Serving a Streamlit page to this machine alone: nothing in here knows what the page shows.

guard.py refuses requests from elsewhere. run.py starts and stops the server. work.py counts what is
being computed, so that a stop can wait for it.
"""

from torchlime.server.run import serve
from torchlime.server.work import WORK, Stopping, Work

__all__ = ["WORK", "Stopping", "Work", "serve"]
