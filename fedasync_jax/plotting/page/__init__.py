"""A page that shows runs: one HTML file, which asks nothing of any network.

Its charts are SVG with their values in it, written here rather than by a library:
plotly.js alone weighs 4 MB. The script only moves the values beside the pointer, and
the page is whole without it, as a mail program shows it.
"""
