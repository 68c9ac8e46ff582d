"""Entry point of the page, here and on a Space: parse settings, build the app, launch."""

import sys

from app.serve import serve
from backend.interface import UserError

if __name__ == "__main__":
    try:
        serve()
    except UserError as error:
        sys.exit(f"AIA Lens cannot start: {error}")
