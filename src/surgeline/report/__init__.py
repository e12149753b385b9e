"""From numbers and findings to pages: the result document first, then everything that renders it.

`document` makes the one versioned JSON value that holds all a page shows. `page` (Markdown), `html`, `terminal` and
`tables` (CSV) render it and compute nothing.
"""
