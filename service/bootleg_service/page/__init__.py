"""The page at ``/``: images dropped into a browser, their neighbours, features and masks, by the service's own API."""
