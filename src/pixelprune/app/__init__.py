"""The explorer: a page in the browser that shows what is kept of an image, what that costs and what it saves.

    >>> from pixelprune.app.page import launch
    >>> if __name__ == "__main__":
    ...     launch()

Uploads are read in processes of their own, which import a script's main module: so that line. Needs
``pixelprune[app]``. ``document``, ``uploads``, ``view`` and ``filmstrip`` do the work and know nothing of the page;
``page`` lays it out, and ``handlers`` say what happens when something on it is changed.
"""
