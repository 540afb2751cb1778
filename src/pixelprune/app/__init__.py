"""The explorer: a page in the browser that shows what is kept of an image, what that costs and what it saves.

    >>> from pixelprune.app.page import launch
    >>> launch()

Needs ``pixelprune[app]``. ``document`` and ``view`` do the work and know nothing of the page; ``page`` lays it out.
"""
