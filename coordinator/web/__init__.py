"""The web page: files that run in a browser as a client of the API, and what serves them."""
